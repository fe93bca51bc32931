// Reads JSON that comes in pieces, in linear time and with bounded depth: a list of conversations is never in memory
// as a whole. Commas before a closing bracket are taken: people edit such files by hand.

const DEEPEST = 100;
// A number or a word such as `true` is no longer than this.
const LONGEST_WORD = 400;

// syntax: no JSON at this place. deep: more than 100 levels. end: the text ends in the middle.
export type Fault = "syntax" | "deep" | "end";

export class BadJson extends Error {
  fault: Fault;
  // Which character, from 0.
  at: number;

  constructor(fault: Fault, at: number) {
    super(`${fault} at ${at}`);
    this.fault = fault;
    this.at = at;
  }
}

// What stands in the place of an element that is larger than is taken.
export const TOO_LARGE = Symbol("too large");

export interface Reading {
  // Whether the elements of the array at this path are handed over one by one, and not kept.
  streams: (path: readonly string[]) => boolean;
  onElement: (value: unknown) => void;
  // Of one element, or of all that is not handed over, in characters.
  most: number;
}

interface Frame {
  // One of the two.
  list: unknown[] | null;
  map: Record<string, unknown> | null;
  key: string;
  streamed: boolean;
}

type Wanted = "value" | "key" | "colon" | "next" | "nothing";

const PLAIN = /[^"\\]*/y;
const BLANK = /[ \t\r\n]*/y;
const WORD = /[-+.\w]*/y;

export class JsonReader {
  readonly #reading: Reading;
  readonly #stack: Frame[] = [];
  #wanted: Wanted = "value";
  #root: unknown = null;
  // Of a string or a word that has begun: what came of it.
  #parts: string[] | null = null;
  #string = false;
  #escaped = false;
  // How many characters came before this piece, and where the element began that is being read.
  #before = 0;
  #began = 0;
  #dropping = false;

  constructor(reading: Reading) {
    this.#reading = reading;
  }

  // Raises BadJson.
  feed(text: string): void {
    let at = this.#before === 0 && text.startsWith("\ufeff") ? 1 : 0;
    while (at < text.length) at = this.#parts ? this.#goOn(text, at) : this.#step(text, at);
    this.#before += text.length;
  }

  // Returns what was not handed over. Raises BadJson where the text ends in the middle.
  end(): unknown {
    if (this.#parts && !this.#string) this.#word(0);
    if (this.#wanted !== "nothing") throw new BadJson("end", this.#before);
    return this.#root;
  }

  // What of the outermost object or array came before the text broke off.
  rest(): unknown {
    const [outermost] = this.#stack;
    return outermost ? (outermost.list ?? outermost.map) : this.#root;
  }

  #fail(at: number): never {
    throw new BadJson("syntax", this.#before + at);
  }

  #step(text: string, from: number): number {
    BLANK.lastIndex = from;
    BLANK.exec(text);
    const at = BLANK.lastIndex;
    const sign = text[at];
    if (sign === undefined) return at;
    if (sign === '"') return this.#begin(at, true);
    if (sign === "{" || sign === "[") this.#open(sign, at);
    else if (sign === "}" || sign === "]") this.#close(sign, at);
    else if (sign === "," && this.#wanted === "next") this.#wanted = this.#top(at).map ? "key" : "value";
    else if (sign === ":" && this.#wanted === "colon") this.#wanted = "value";
    else return this.#begin(at, false);
    return at + 1;
  }

  #top(at: number): Frame {
    return this.#stack.at(-1) ?? this.#fail(at);
  }

  // A string or a word begins.
  #begin(at: number, string: boolean): number {
    const fits = this.#wanted === "value" || (string && this.#wanted === "key");
    if (!fits) this.#fail(at);
    this.#start(at);
    this.#parts = [];
    this.#string = string;
    return string ? at + 1 : at;
  }

  // Notes where an element begins that is handed over.
  #start(at: number): void {
    const top = this.#stack.at(-1);
    if (this.#wanted !== "value" || !(top?.streamed ?? true)) return;
    this.#began = this.#before + at;
    this.#dropping = false;
  }

  #goOn(text: string, from: number): number {
    return this.#string ? this.#goOnString(text, from) : this.#goOnWord(text, from);
  }

  #goOnString(text: string, from: number): number {
    let at = from;
    while (at < text.length) {
      if (this.#escaped) {
        this.#escaped = false;
        at += 1;
        continue;
      }
      PLAIN.lastIndex = at;
      PLAIN.exec(text);
      at = PLAIN.lastIndex;
      if (text[at] === '"') {
        this.#keep(text.slice(from, at));
        this.#endString(at);
        return at + 1;
      }
      if (text[at] === "\\") {
        this.#escaped = true;
        at += 1;
      }
    }
    this.#keep(text.slice(from));
    return text.length;
  }

  #keep(piece: string): void {
    if (this.#before + piece.length - this.#began > this.#reading.most) this.#drop();
    if (!this.#dropping) this.#parts?.push(piece);
  }

  // The element is too large: it is read to its end, and not kept.
  #drop(): void {
    this.#dropping = true;
    for (const frame of this.#stack) {
      if (frame.streamed) continue;
      frame.list &&= [];
      frame.map &&= Object.create(null);
    }
    this.#parts &&= [];
  }

  #endString(at: number): void {
    const raw = (this.#parts ?? []).join("");
    this.#parts = null;
    const value = this.#unescaped(raw, at);
    if (this.#wanted === "key") {
      this.#top(at).key = value;
      this.#wanted = "colon";
    } else {
      this.#put(value);
    }
  }

  #unescaped(raw: string, at: number): string {
    if (!raw.includes("\\")) return raw;
    try {
      return JSON.parse(`"${raw.replace(CONTROLS, " ")}"`);
    } catch {
      return this.#fail(at);
    }
  }

  #goOnWord(text: string, from: number): number {
    WORD.lastIndex = from;
    WORD.exec(text);
    const at = WORD.lastIndex;
    this.#parts?.push(text.slice(from, at));
    if (at < text.length) this.#word(at);
    else if ((this.#parts?.length ?? 0) > LONGEST_WORD) this.#fail(at);
    return at;
  }

  #word(at: number): void {
    const raw = (this.#parts ?? []).join("");
    this.#parts = null;
    if (!raw || raw.length > LONGEST_WORD) this.#fail(at);
    // Python writes these where a number is none.
    if (/^(?:NaN|-?Infinity)$/.test(raw)) {
      this.#put(null);
      return;
    }
    try {
      this.#put(JSON.parse(raw));
    } catch {
      this.#fail(at);
    }
  }

  #path(): string[] {
    return this.#stack.map((frame) => (frame.map ? frame.key : "*"));
  }

  #open(sign: string, at: number): void {
    if (this.#wanted !== "value") this.#fail(at);
    if (this.#stack.length >= DEEPEST) throw new BadJson("deep", this.#before + at);
    this.#start(at);
    const list = sign === "[" ? [] : null;
    // Without a prototype: no name in a file is special.
    const map = list ? null : Object.create(null);
    const streamed = list !== null && this.#stack.length < 3 && this.#reading.streams(this.#path());
    this.#stack.push({ list, map, key: "", streamed });
    this.#wanted = list ? "value" : "key";
  }

  #close(sign: string, at: number): void {
    const frame = this.#top(at);
    const fits = sign === "]" ? frame.list !== null : frame.map !== null;
    const open = frame.list ? ["value", "next"] : ["key", "next"];
    if (!fits || !open.includes(this.#wanted)) this.#fail(at);
    this.#stack.pop();
    this.#put(frame.list ?? frame.map);
  }

  // A value is complete.
  #put(value: unknown): void {
    // Numbers and brackets make an element large too.
    if (!this.#dropping && this.#before - this.#began > this.#reading.most) this.#drop();
    const top = this.#stack.at(-1);
    if (!top) {
      this.#root = this.#dropping ? TOO_LARGE : value;
      this.#wanted = "nothing";
      return;
    }
    this.#wanted = "next";
    if (top.streamed) {
      this.#reading.onElement(this.#dropping ? TOO_LARGE : value);
      this.#dropping = false;
      this.#began = this.#before;
    } else if (!this.#dropping) {
      if (top.list) top.list.push(value);
      else if (top.map) top.map[top.key] = value;
    }
  }
}

// Characters that JSON wants escaped and that some programs write as they are.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are meant
const CONTROLS = /[\u0000-\u001f]/g;
