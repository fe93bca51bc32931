// What of a message is sent: its text, with the files beside it in their frames, and pictures and sounds as the API
// takes them.
import type { Media, Turn } from "../api/api.ts";
import type { Attached, Attachment, Message } from "../store/rows.ts";
import { frame } from "./frame.ts";

type Load = (id: string) => Promise<Attachment | undefined>;

// What a model reads beside text, by its capabilities.
export interface Senses {
  vision: boolean;
  audio: boolean;
}

export function sensesOf(capabilities: readonly string[] | undefined): Senses {
  return {
    vision: Boolean(capabilities?.includes("vision")),
    audio: Boolean(capabilities?.includes("audio")),
  };
}

export function base64(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

// A line in the place of what cannot be sent: the conversation goes on without it.
function missing(name: string, why: string): string {
  return `[The file ${JSON.stringify(name)} is not here: ${why}.]`;
}

async function media(row: Attachment, bytes: Blob): Promise<Media> {
  const data = await base64(bytes);
  if (row.kind === "image")
    return { type: "image_url", image_url: { url: `data:${row.type};base64,${data}` } };
  return { type: "input_audio", input_audio: { data, format: row.type === "audio/wav" ? "wav" : "mp3" } };
}

interface Sent {
  text?: string;
  media?: Media;
}

async function one({ id, name, pages }: Attached, load: Load, senses: Senses): Promise<Sent> {
  const row = await load(id);
  if (!row) return { text: missing(name, "it was deleted") };
  if (row.kind === "image" && !senses.vision) return { text: missing(name, "this model reads no pictures") };
  if (row.kind === "audio" && !senses.audio) return { text: missing(name, "this model reads no sound") };
  if (row.kind !== "text")
    return row.bytes ? { media: await media(row, row.bytes) } : { text: missing(name, "it is empty") };
  const file = { id, name: row.name, pages: row.pages ?? [], ...(row.cut ? { cut: true } : {}) };
  return { text: frame(pages ? { ...file, chosen: pages } : file) };
}

// A message as a turn. Files stand before the question.
export async function turnOf(message: Message, load: Load, senses: Senses): Promise<Turn> {
  const { role, content, attachments } = message;
  if (!attachments?.length) return { role, content };
  const found: Sent[] = [];
  for (const attached of attachments) found.push(await one(attached, load, senses));
  const texts = found.flatMap(({ text }) => (text === undefined ? [] : [text]));
  const parts = found.flatMap(({ media: part }) => (part ? [part] : []));
  const turn: Turn = { role, content: [...texts, content].filter(Boolean).join("\n\n") };
  return parts.length ? { ...turn, media: parts } : turn;
}
