// Files that are letters: text, code, CSV, JSON, … They stay as they are; formulas in a table are letters too.
import { MOST_TEXT } from "../limits.ts";
import type { Part } from "../parts.ts";
import { clean, pieces } from "./sink.ts";
import { Unreadable } from "./unreadable.ts";

// A letter has at most four bytes.
const MOST_BYTES = 4 * MOST_TEXT;
// More control characters than one in so many bytes are in no text.
const CONTROLS_WITHIN = 200;
const TAB = 9;
const RETURN = 13;
const ESCAPE = 27;
const BLANK = 32;

function encodingOf(bytes: Uint8Array): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  return "utf-8";
}

function looksBinary(bytes: Uint8Array): boolean {
  let controls = 0;
  for (const byte of bytes) {
    if (byte === 0) return true;
    if (byte < BLANK && (byte < TAB || byte > RETURN) && byte !== ESCAPE) controls += 1;
  }
  return controls * CONTROLS_WITHIN > bytes.length;
}

function decoded(bytes: Uint8Array, whole: boolean): string {
  const encoding = encodingOf(bytes);
  if (encoding === "utf-8" && looksBinary(bytes)) throw new Unreadable("binary");
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes, { stream: !whole });
  } catch {
    if (encoding !== "utf-8") throw new Unreadable("binary");
    // An old text of Western Europe: it has a letter for each byte.
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

export function plain(bytes: Uint8Array): { parts: Part[]; cut: boolean } {
  const read = bytes.subarray(0, MOST_BYTES);
  const all = decoded(read, read.length === bytes.length);
  const text = clean(all.slice(0, MOST_TEXT));
  if (!text.trim()) throw new Unreadable("empty");
  return { parts: pieces(text), cut: all.length > MOST_TEXT || read.length < bytes.length };
}
