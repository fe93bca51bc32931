// Server-sent events out of pieces of text, cut anywhere.
export type ServerEvent = { data: string } | { comment: string };

export class EventParser {
  #rest = "";
  #data: string[] = [];

  feed(text: string): ServerEvent[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): ServerEvent[] {
    if (line === "") {
      const data = this.#data;
      this.#data = [];
      return data.length ? [{ data: data.join("\n") }] : [];
    }
    if (line.startsWith(":")) return [{ comment: line.slice(1).trim() }];
    if (line.startsWith("data:")) this.#data.push(line.slice(5).replace(/^ /, ""));
    return [];
  }
}
