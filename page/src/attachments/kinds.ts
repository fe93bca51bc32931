// What a file is, by its bytes: names and types that it comes with may lie.
import { Unreadable } from "./reading/unreadable.ts";

// text: anything that is letters; the others are read by a reader of their own.
export type Form = "text" | "pdf" | "zip" | "png" | "jpeg" | "gif" | "webp" | "wav" | "mp3";

export const IMAGES: readonly Form[] = ["png", "jpeg", "gif", "webp"];
export const SOUNDS: readonly Form[] = ["wav", "mp3"];

const ZIP = [0x50, 0x4b, 0x03, 0x04];
const OLE = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
// A PDF may have some bytes before its head.
const PDF_WITHIN = 1_024;

function begins(bytes: Uint8Array, with_: readonly number[], at = 0): boolean {
  return with_.every((byte, index) => bytes[at + index] === byte);
}

function letters(text: string): number[] {
  return [...text].map((one) => one.charCodeAt(0));
}

function has(bytes: Uint8Array, wanted: readonly number[]): boolean {
  const [first = 0] = wanted;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (begins(bytes, wanted, at)) return true;
  }
  return false;
}

// Frames of MPEG audio begin with eleven bits set; layer and rate must be ones that exist.
function isMp3(bytes: Uint8Array): boolean {
  if (begins(bytes, letters("ID3"))) return true;
  const [first = 0, second = 0, third = 0] = bytes;
  return first === 0xff && (second & 0xe6) === 0xe2 && third >> 4 !== 15 && (third & 0x0c) !== 0x0c;
}

function container(bytes: Uint8Array): Form | undefined {
  if (!begins(bytes, letters("RIFF"))) return undefined;
  if (begins(bytes, letters("WAVE"), 8)) return "wav";
  if (begins(bytes, letters("WEBP"), 8)) return "webp";
  return undefined;
}

// Says what a whole file is. Raises Unreadable for what no reader takes and that is no text either.
export function formOf(bytes: Uint8Array): Form {
  if (!bytes.length) throw new Unreadable("empty");
  if (begins(bytes, [0x89, ...letters("PNG\r\n"), 0x1a, 0x0a])) return "png";
  if (begins(bytes, [0xff, 0xd8, 0xff])) return "jpeg";
  if (begins(bytes, letters("GIF8"))) return "gif";
  if (begins(bytes, ZIP)) return "zip";
  // Only an archive without any file begins like this.
  if (begins(bytes, [0x50, 0x4b, 0x05, 0x06])) throw new Unreadable("archive");
  if (begins(bytes, OLE)) {
    // Office keeps a document with a password in a container of its old form.
    const name = letters("EncryptedPackage").flatMap((byte) => [byte, 0]);
    throw new Unreadable(has(bytes, name) ? "password" : "old_office");
  }
  if (has(bytes.subarray(0, PDF_WITHIN), letters("%PDF-"))) return "pdf";
  return container(bytes) ?? (isMp3(bytes) ? "mp3" : "text");
}
