// Cuts Markdown into parts that can be read one by one. A part of prose has a bounded length whatever the text
// is, so that reading one takes a bounded time; each line is looked at once. Where a text has no place to cut
// (a list of 100,000 items, a line of a million characters) it is cut all the same: shown as neighbours, the
// parts look like one. Long code between fences is a part of its own, of any length: nothing in it is read.
import { openFormula } from "./math.ts";

export interface Part {
  kind: "prose" | "code";
  // The part's text; of code, what stands between the fences.
  source: string;
  language: string;
  // Where it begins in the text.
  start: number;
  // Goes on with a line of the part before it.
  joined: boolean;
  // The head of the table whose rest it is; it stands in `source` too.
  head: string;
}

// A part of prose ends at the next good place after so many characters, and at any line after so many.
export const SOFT = 1_500;
export const HARD = 6_000;
export const MOST = 2 * HARD;
// Each line may become elements, which cost more than characters.
export const HARD_LINES = 300;
const LONGEST_HEAD = 1_000;
const MOST_REFERENCES = 500;

const FENCE = /^( {0,3})(`{3,}|~{3,})/;
const ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/;
const HEADING = /^#{1,6}(?:[ \t]|$)/;
const TABLE_RULE = /^[|:\- \t]+$/;
const REFERENCE = /^ {0,3}\[(?!\^)[^\]\\]{1,200}\]:[ \t]{0,20}\S/;

// `before`: the parts of the text of which this one is the continuation. All but the last two are taken over: a line
// that had not ended may have begun a part of its own, and now does not.
export function split(text: string, before: readonly Part[] = []): Part[] {
  return new Splitter(text, before.slice(0, -2), before.at(-2)).run();
}

// The lines that say where `[name]` leads, which count for all parts.
export function references(text: string): string {
  if (!text.includes("]:")) return "";
  const found = text.split("\n").filter((line) => line.length < 2_000 && REFERENCE.test(line));
  return found.slice(0, MOST_REFERENCES).join("\n");
}

class Splitter {
  readonly #text: string;
  readonly #parts: Part[];
  #at: number;
  // Of the part that is being made: where it begins, and what a table that was cut repeats above its rest.
  #start = 0;
  #lines = 0;
  #head = "";
  #joined = false;
  // Of the lines read last.
  #before = "";
  #inList = false;
  #table = "";
  #innerFence = "";
  #formula = "";

  constructor(text: string, parts: Part[], first?: Part) {
    this.#text = text;
    this.#parts = parts;
    this.#at = first?.start ?? 0;
    this.#begin(this.#at, first?.joined, first?.head);
  }

  run(): Part[] {
    while (this.#at < this.#text.length) {
      const line = this.#line(this.#at);
      const fence = this.#innerFence ? null : this.#fenceOf(line);
      if (fence) this.#code(line, fence);
      else this.#prose(line);
    }
    this.#end(this.#text.length);
    return this.#parts;
  }

  #line(at: number): string {
    const end = this.#text.indexOf("\n", at);
    return this.#text.slice(at, end < 0 ? this.#text.length : end);
  }

  // A fence that stands at the top; one within a list belongs to its item.
  #fenceOf(line: string): string | null {
    const found = fenceOf(line);
    return found && !(this.#inList && found.indent) ? found.marks : null;
  }

  #code(line: string, marks: string): void {
    const start = this.#at;
    const from = Math.min(start + line.length + 1, this.#text.length);
    let at = from;
    let end = this.#text.length;
    while (at < this.#text.length) {
      const next = this.#line(at);
      if (closes(next, marks)) {
        end = at;
        at += next.length + 1;
        break;
      }
      at += next.length + 1;
    }
    if (at - start < SOFT) {
      // It is read with what stands around it.
      if (start - this.#start >= SOFT) this.#cut(line);
      this.#before = "```";
      this.#inList = false;
      this.#table = "";
      this.#at = at;
      return;
    }
    this.#end(start);
    const language = line.trimStart().slice(marks.length).trim().slice(0, 40).split(/\s/, 1)[0] ?? "";
    const source = this.#text.slice(from, Math.max(from, end)).replace(/\n$/, "");
    this.#parts.push({ kind: "code", source, language, start, joined: false, head: "" });
    this.#at = at;
    this.#begin(at);
  }

  #prose(line: string): void {
    if (this.#mayCut(line)) this.#cut(line);
    const room = MOST - (this.#at - this.#start);
    if (line.length > room) {
      const end = wordEnd(this.#text, this.#at, Math.max(room, SOFT));
      this.#at = end;
      this.#end(end);
      this.#begin(end, true);
      return;
    }
    this.#note(line);
    this.#lines += this.#table ? costOfRow(this.#table) : 1;
    this.#at += line.length + 1;
  }

  #mayCut(line: string): boolean {
    const size = this.#at - this.#start;
    if (size < SOFT && this.#lines < HARD_LINES) return false;
    const hard = size >= HARD || this.#lines >= HARD_LINES;
    if (hard && (size >= MOST - SOFT || /^\S/.test(line))) return true;
    if (this.#innerFence || this.#formula || !/^\S/.test(line)) return false;
    return HEADING.test(line) || (!this.#before.trim() && !(this.#inList && ITEM.test(line)));
  }

  #cut(line: string): void {
    const head = this.#table && line.includes("|") && this.#table.length < LONGEST_HEAD ? this.#table : "";
    const joined = Boolean(this.#before.trim()) && !HEADING.test(line);
    this.#end(this.#at);
    this.#begin(this.#at, joined, head);
  }

  #note(line: string): void {
    if (ITEM.test(line)) this.#inList = true;
    else if (!this.#before.trim() && /^\S/.test(line)) this.#inList = false;
    if (this.#innerFence) {
      if (closes(line, this.#innerFence)) this.#innerFence = "";
    } else if (this.#inList) {
      this.#innerFence = /^\s{1,40}(`{3,}|~{3,})[^`]{0,200}$/.exec(line)?.[1] ?? "";
    }
    if (!this.#formula) this.#formula = openFormula(line);
    else if (line.includes(this.#formula)) this.#formula = "";
    if (!line.includes("|")) this.#table = "";
    else if (TABLE_RULE.test(line) && line.includes("-") && this.#before.includes("|")) {
      this.#table = `${this.#before}\n${line}`;
    }
    this.#before = line;
  }

  #begin(at: number, joined = false, head = ""): void {
    this.#start = at;
    this.#lines = 0;
    this.#head = head;
    this.#joined = joined;
    this.#before = "";
    this.#inList = false;
    this.#table = head;
    this.#innerFence = "";
    this.#formula = "";
  }

  #end(end: number): void {
    const source = this.#text.slice(this.#start, end);
    if (!source.trim()) return;
    const whole = this.#head ? `${this.#head}\n${source}` : source;
    const more = { language: "", start: this.#start, joined: this.#joined, head: this.#head };
    this.#parts.push({ kind: "prose", source: whole, ...more });
  }
}

// A row has as many cells as the table's head, however short it is. So many cost as much as a line.
const CELLS_A_LINE = 4;

function costOfRow(head: string): number {
  return Math.max(1, (head.length - head.replaceAll("|", "").length) / 2 / CELLS_A_LINE);
}

// The marks with which a line opens a fence, and the blanks before them; null for none.
export function fenceOf(line: string): { indent: string; marks: string } | null {
  const found = FENCE.exec(line);
  const marks = found?.[2] ?? "";
  if (!found || (marks.startsWith("`") && line.includes("`", found[0].length))) return null;
  return { indent: found[1] ?? "", marks };
}

// Whether a line closes the fence that these marks have opened.
export function closes(line: string, marks: string): boolean {
  const closing = line.length < 1_000 ? line.trim() : "";
  return closing.length >= marks.length && closing === (marks[0] ?? "").repeat(closing.length);
}

// Where to cut a long line: after a word if one ends near, and never within one character.
function wordEnd(text: string, from: number, length: number): number {
  const most = Math.min(from + length, text.length);
  const space = text.lastIndexOf(" ", most);
  if (space > most - 200 && space > from) return space + 1;
  const last = text.charCodeAt(most - 1);
  return last >= 0xd800 && last < 0xdc00 && most < text.length ? most + 1 : most;
}

// Cuts text that is shown as it is: at ends of lines where there are some, and into bounded parts.
export function pieces(text: string, size = 8_000): string[] {
  const found: string[] = [];
  let at = 0;
  while (text.length - at > size) {
    const line = text.lastIndexOf("\n", at + size);
    const end = line > at ? line + 1 : wordEnd(text, at, size);
    found.push(text.slice(at, end));
    at = end;
  }
  found.push(text.slice(at));
  return found;
}
