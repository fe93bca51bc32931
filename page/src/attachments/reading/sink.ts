// Takes the text that a reader finds, up to a bound.
import { MOST_TEXT, PIECE } from "../limits.ts";
import type { Part, Unit } from "../parts.ts";

// Ends a reader that has found as much as is kept.
export class Enough extends Error {}

// Text without control characters, with one kind of line end, and with whole letters alone.
export function clean(text: string): string {
  return text
    .replace(/\r\n?|[\f\v\u0085\u2028\u2029]/g, "\n")
    .replace(/(?![\t\n])\p{Cc}/gu, "")
    .replace(/[\ud800-\udfff]/gu, "\ufffd");
}

// Without blanks at the ends of lines, and without rows of empty lines.
function tidy(text: string): string {
  const lines = clean(text).split("\n");
  return lines
    .map((line) => line.trimEnd())
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
}

export class Sink {
  readonly #parts: Part[] = [];
  #pieces: string[] = [];
  #unit: Unit = "";
  #name = "";
  #room: number;
  cut = false;

  constructor(room = MOST_TEXT) {
    this.#room = room;
  }

  begin(unit: Unit, name = ""): void {
    this.#end();
    [this.#unit, this.#name] = [unit, clean(name).replace(/\s+/g, " ").trim().slice(0, 100)];
  }

  // Raises Enough when there is no more room.
  write(text: string): void {
    if (text.length > this.#room) {
      this.#pieces.push(text.slice(0, this.#room));
      this.#room = 0;
      this.cut = true;
      throw new Enough();
    }
    this.#room -= text.length;
    this.#pieces.push(text);
  }

  #end(): void {
    // A part that was begun stays, also an empty one: its number is its place.
    if (this.#pieces.length || this.#unit) {
      this.#parts.push({ unit: this.#unit, name: this.#name, text: tidy(this.#pieces.join("")) });
    }
    this.#pieces = [];
    this.#unit = "";
  }

  // All parts. One that is long and has no pages is cut into pieces.
  end(): Part[] {
    this.#end();
    return this.#parts.flatMap((part) => (part.unit ? [part] : pieces(part.text)));
  }
}

// A long text in pieces that end with a line, where lines are not longer than a piece.
export function pieces(text: string): Part[] {
  if (text.length <= PIECE * 1.5) return [{ unit: "", name: "", text }];
  const made: Part[] = [];
  let line = 1;
  for (let from = 0; from < text.length; ) {
    const to = endOf(text, from);
    const piece = text.slice(from, to);
    const lines = piece.split("\n").length - (piece.endsWith("\n") ? 1 : 0);
    made.push({ unit: "piece", name: `lines ${line}-${line + lines - 1}`, text: piece.replace(/\n$/, "") });
    line += piece.endsWith("\n") ? lines : lines - 1;
    from = to;
  }
  return made;
}

function endOf(text: string, from: number): number {
  if (text.length - from <= PIECE) return text.length;
  const at = text.lastIndexOf("\n", from + PIECE - 1);
  if (at > from) return at + 1;
  // A line without an end; a letter of two units stays whole.
  const code = text.charCodeAt(from + PIECE - 1);
  return from + PIECE - (code >= 0xd800 && code < 0xdc00 ? 1 : 0);
}
