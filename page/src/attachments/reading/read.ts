// Reads a file by what it is. Runs in a worker; the text readers run wherever there is DecompressionStream.
import { type Form, formOf, IMAGES, SOUNDS } from "../kinds.ts";
import { MOST_FILE } from "../limits.ts";
import type { Part } from "../parts.ts";
import { type Picture, picture } from "./picture.ts";
import { plain } from "./plain.ts";
import { Enough, Sink } from "./sink.ts";
import { Unreadable } from "./unreadable.ts";
import { Zip } from "./zip.ts";

// What was read. cut: the file has more text than is kept.
export type Reading =
  | { kind: "text"; parts: Part[]; cut: boolean }
  | ({ kind: "picture" } & Picture)
  | { kind: "sound"; bytes: ArrayBuffer; format: "wav" | "mp3" };

export interface Progress {
  done: number;
  of: number;
  unit: "bytes" | "pages";
}

type Told = (progress: Progress) => void;
type Bytes = Uint8Array<ArrayBuffer>;

async function office(bytes: Bytes, sink: Sink, told: Told): Promise<void> {
  const zip = new Zip(bytes, (done) => told({ done, of: 0, unit: "bytes" }));
  if (zip.has("word/document.xml")) await (await import("./docx.ts")).docx(zip, sink);
  else if (zip.has("xl/workbook.xml")) await (await import("./xlsx.ts")).xlsx(zip, sink);
  else if (zip.has("ppt/presentation.xml")) await (await import("./pptx.ts")).pptx(zip, sink);
  else if (zip.has("mimetype") && zip.has("content.xml")) await (await import("./odf.ts")).odf(zip, sink);
  else throw new Unreadable("archive");
}

async function pdf(bytes: Bytes, sink: Sink, told: Told): Promise<void> {
  const { pdf: read } = await import("./pdf.ts");
  await read(bytes, sink, (done, of) => told({ done, of, unit: "pages" }));
}

async function document(form: "zip" | "pdf", bytes: Bytes, told: Told): Promise<Reading> {
  const sink = new Sink();
  try {
    await (form === "pdf" ? pdf : office)(bytes, sink, told);
  } catch (error) {
    if (!(error instanceof Enough)) throw error;
    sink.cut = true;
  }
  const parts = sink.end();
  if (!parts.some((part) => part.text)) throw new Unreadable("no_text");
  return { kind: "text", parts, cut: sink.cut };
}

// Raises Unreadable. `side`: the longest side of a picture, in pixels.
export async function read(file: Blob, side: number, told: Told): Promise<Reading> {
  if (file.size > MOST_FILE) throw new Unreadable("too_large");
  const bytes = await file.arrayBuffer().then(
    (buffer) => new Uint8Array(buffer),
    () => {
      throw new Unreadable("gone");
    },
  );
  const form: Form = formOf(bytes);
  if (IMAGES.includes(form)) return { kind: "picture", ...(await picture(form, bytes, side)) };
  if (SOUNDS.includes(form)) return { kind: "sound", bytes: bytes.buffer, format: form as "wav" | "mp3" };
  if (form === "zip" || form === "pdf") return document(form, bytes, told);
  return { kind: "text", ...plain(bytes) };
}
