// XML out of a packed file, as a stream: elements and text, which is all that documents need. It looks at each character
// once. Entities of a text's own, which can make a short text a huge one, are refused with the declaration they need.
import { Unreadable } from "./unreadable.ts";

export type Attributes = Readonly<Record<string, string>>;

// Names come without their prefix: `w:p` is `p`. Text comes in pieces.
export interface Handlers {
  open?: (name: string, attributes: Attributes) => void;
  text?: (text: string) => void;
  close?: (name: string) => void;
}

// Characters of one tag or comment, and elements within each other: no document has more.
const MOST_TAG = 1_000_000;
const MOST_DEPTH = 10_000;
// An entity is not longer; one may be cut by the end of a chunk.
const MOST_ENTITY = 12;
const NAMED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
const NONE: Attributes = {};

function local(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

// The value of an attribute whatever its prefix; "" for none.
export function attribute(attributes: Attributes, name: string): string {
  for (const [key, value] of Object.entries(attributes)) if (local(key) === name) return value;
  return "";
}

function entity(whole: string, name: string): string {
  const known = NAMED[name];
  if (known) return known;
  const code = /^#(?:x([0-9a-f]{1,6})|([0-9]{1,7}))$/i.exec(name);
  const point = code ? Number.parseInt(code[1] ?? code[2] ?? "", code[1] ? 16 : 10) : -1;
  if (point < 0 || point > 0x10ffff) throw new Unreadable("broken");
  return point >= 0xd800 && point < 0xe000 ? "\ufffd" : String.fromCodePoint(point) || whole;
}

function decoded(text: string): string {
  return text.includes("&") ? text.replace(/&([^;&\s]{1,12});/g, entity) : text;
}

// Where a tag ends that begins before `from`; -1 if it does not end here. A sign in quotes ends nothing.
function tagEnd(source: string, from: number): number {
  let quote = 0;
  for (let at = from; at < source.length; at += 1) {
    const code = source.charCodeAt(at);
    if (quote) {
      if (code === quote) quote = 0;
    } else if (code === 0x22 || code === 0x27) quote = code;
    else if (code === 0x3e) return at;
    else if (code === 0x3c) throw new Unreadable("broken");
  }
  return -1;
}

function attributesOf(text: string): Attributes {
  if (!text.trim()) return NONE;
  const found: Record<string, string> = Object.create(null);
  const one = /\s*([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/y;
  for (const whole = text.trimEnd(); one.lastIndex < whole.length; ) {
    const made = one.exec(whole);
    if (!made) throw new Unreadable("broken");
    found[made[1] ?? ""] = decoded(made[2] ?? made[3] ?? "");
  }
  return found;
}

class Scanner {
  readonly #handlers: Handlers;
  readonly #open: string[] = [];
  #rest = "";
  #any = false;

  constructor(handlers: Handlers) {
    this.#handlers = handlers;
  }

  feed(text: string): void {
    const source = this.#rest + text;
    let at = 0;
    for (;;) {
      const sign = source.indexOf("<", at);
      if (sign < 0) break;
      this.#text(source.slice(at, sign));
      const next = this.#markup(source, sign);
      at = next < 0 ? sign : next;
      if (next < 0) break;
    }
    this.#rest = source.slice(at);
    if (!this.#rest.startsWith("<")) this.#flush();
    if (this.#rest.length > MOST_TAG) throw new Unreadable("broken");
  }

  // Text is passed on as it comes; an entity that is cut waits for its end.
  #flush(): void {
    const sign = this.#rest.lastIndexOf("&");
    const cut = sign >= 0 && this.#rest.length - sign <= MOST_ENTITY && !this.#rest.includes(";", sign);
    const to = cut ? sign : this.#rest.length;
    this.#text(this.#rest.slice(0, to));
    this.#rest = this.#rest.slice(to);
  }

  #text(text: string): void {
    if (text && this.#open.length) this.#handlers.text?.(decoded(text));
    else if (text.trim() && text.trim() !== "\ufeff") throw new Unreadable("broken");
  }

  // Takes what begins at a sign; returns what stands behind it, -1 if it does not end here.
  #markup(source: string, at: number): number {
    if (source.startsWith("<!--", at)) return this.#skip(source, at + 4, "-->");
    if (source.startsWith("<?", at)) return this.#skip(source, at + 2, "?>");
    if (source.startsWith("<![CDATA[", at)) {
      const end = source.indexOf("]]>", at + 9);
      if (end >= 0) this.#handlers.text?.(source.slice(at + 9, end));
      return end < 0 ? -1 : end + 3;
    }
    if (source.startsWith("<!", at)) {
      // It may be one of those above, cut by the end of a chunk.
      if (source.length - at < 9) return -1;
      throw new Unreadable("entities");
    }
    const end = tagEnd(source, at + 1);
    if (end < 0) return -1;
    this.#tag(source.slice(at + 1, end));
    return end + 1;
  }

  #skip(source: string, from: number, sign: string): number {
    const end = source.indexOf(sign, from);
    return end < 0 ? -1 : end + sign.length;
  }

  #tag(content: string): void {
    if (content.startsWith("/")) {
      this.#close(content.slice(1).trimEnd());
      return;
    }
    const empty = content.endsWith("/");
    const inner = empty ? content.slice(0, -1) : content;
    const space = inner.search(/\s/);
    const name = space < 0 ? inner : inner.slice(0, space);
    if (!name || this.#open.length >= MOST_DEPTH) throw new Unreadable("broken");
    // A document has one outermost element.
    if (!this.#open.length && this.#any) throw new Unreadable("broken");
    this.#any = true;
    this.#open.push(name);
    this.#handlers.open?.(local(name), space < 0 ? NONE : attributesOf(inner.slice(space)));
    if (empty) this.#close(name);
  }

  #close(name: string): void {
    if (this.#open.pop() !== name) throw new Unreadable("broken");
    this.#handlers.close?.(local(name));
  }

  end(): void {
    if (this.#rest.trim() || this.#open.length || !this.#any) throw new Unreadable("broken");
  }
}

// Raises Unreadable for what is not XML, and whatever the handlers raise.
export async function readXml(chunks: AsyncIterable<Uint8Array>, handlers: Handlers): Promise<void> {
  const scanner = new Scanner(handlers);
  let decoder: TextDecoder | undefined;
  for await (const chunk of chunks) {
    decoder ??= new TextDecoder(chunk[0] === 0xff ? "utf-16le" : chunk[0] === 0xfe ? "utf-16be" : "utf-8");
    scanner.feed(decoder.decode(chunk, { stream: true }));
  }
  scanner.end();
}
