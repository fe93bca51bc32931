// Pictures are drawn anew: what a camera wrote beside them (where, when, by whom) does not come along.
import type { Form } from "../kinds.ts";
import { MOST_PIXELS } from "../limits.ts";
import { Unreadable } from "./unreadable.ts";

export interface Size {
  width: number;
  height: number;
}

export interface Picture extends Size {
  bytes: ArrayBuffer;
  type: "image/png" | "image/jpeg";
}

const TYPES: Partial<Record<Form, string>> = {
  png: "image/png",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
};
const QUALITY = 0.85;
// A picture without loss that would be larger than this, in bytes, is stored with some.
const MOST_PNG = 1_500_000;

// --- Size, by the head of the file: one that says it is huge is not drawn at all --------------------------

function jpegSize(view: DataView): Size | undefined {
  for (let at = 2; at + 9 < view.byteLength; ) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const marker = view.getUint8(at + 1);
    // The heads of a picture's data, whatever their coding; the others between them are tables.
    const isHead = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isHead) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    if (marker === 0xff) at += 1;
    else at += 2 + view.getUint16(at + 2);
  }
  return undefined;
}

function webpSize(view: DataView): Size | undefined {
  const chunk = String.fromCharCode(...[12, 13, 14, 15].map((at) => view.getUint8(at)));
  if (chunk === "VP8 ")
    return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  if (chunk === "VP8L") {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >> 14) & 0x3fff) + 1 };
  }
  if (chunk !== "VP8X") return undefined;
  const three = (at: number) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16) + 1;
  return { width: three(24), height: three(27) };
}

// Raises Unreadable.
export function sizeOf(form: Form, bytes: Uint8Array): Size {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let size: Size | undefined;
  try {
    if (form === "png") size = { width: view.getUint32(16), height: view.getUint32(20) };
    else if (form === "gif") size = { width: view.getUint16(6, true), height: view.getUint16(8, true) };
    else size = form === "jpeg" ? jpegSize(view) : webpSize(view);
  } catch {
    // The file ends within its head.
  }
  if (!size?.width || !size.height) throw new Unreadable("broken");
  if (size.width * size.height > MOST_PIXELS) throw new Unreadable("huge");
  return size;
}

// --- Drawing ----------------------------------------------------------------------------------------------

function fitted({ width, height }: Size, side: number): Size {
  const factor = Math.min(1, side / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * factor)), height: Math.max(1, Math.round(height * factor)) };
}

function drawn(bitmap: ImageBitmap, { width, height }: Size, opaque: boolean): OffscreenCanvas {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Unreadable("broken");
  if (opaque) {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas;
}

// The first frame of a picture, with its longer side at most `side` pixels. Raises Unreadable.
export async function picture(form: Form, bytes: Uint8Array<ArrayBuffer>, side: number): Promise<Picture> {
  sizeOf(form, bytes);
  const bitmap = await createImageBitmap(new Blob([bytes], { type: TYPES[form] ?? "" })).catch(() => {
    throw new Unreadable("broken");
  });
  const size = fitted(bitmap, side);
  if (form !== "jpeg") {
    const exact = await drawn(bitmap, size, false).convertToBlob({ type: "image/png" });
    if (exact.size <= MOST_PNG) return { ...size, type: "image/png", bytes: await exact.arrayBuffer() };
  }
  const made = await drawn(bitmap, size, true).convertToBlob({ type: "image/jpeg", quality: QUALITY });
  return { ...size, type: "image/jpeg", bytes: await made.arrayBuffer() };
}
