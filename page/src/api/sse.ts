// Server-sent events out of pieces of text, cut anywhere.
export type ServerEvent = { data: string } | { comment: string };

// A line without an end is no event, however long one waits for it.
const MOST_LINE = 2_000_000;

export class EventParser {
  #rest = "";
  #data: string[] = [];

  feed(text: string): ServerEvent[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MOST_LINE) throw new Error(`a line has more than ${MOST_LINE} characters`);
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
