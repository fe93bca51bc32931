// What is found in a file, in whichever form it came: conversations as this page understands them, with the ids of
// their source. The page makes its own ids of these, always the same: a file that is imported twice makes no doubles.
import { list, type Message, type Reasoning, type Settings, type State, type Usage } from "../store/rows.ts";

export interface FoundFile {
  // Within the conversation.
  id: string;
  name: string;
  kind: "image" | "audio" | "text";
  type: string;
  size: number;
  // Its bytes in base64, or its text.
  base64?: string;
  pages?: { name: string; text: string }[];
  // Its text was too long and is not all here.
  cut?: true;
}

export interface FoundMessage {
  id: string;
  // "" for the first.
  parent: string;
  role: Message["role"];
  content: string;
  // Milliseconds since the epoch; 0 where the source does not say.
  created: number;
  model: string;
  state?: State;
  reasoning?: Reasoning;
  usage?: Usage;
  // Ids of files.
  files?: string[];
  // Which pages of them were sent, as a message has it.
  attachments?: unknown[];
}

export interface Found {
  source: "sluice" | "chatgpt" | "open-webui" | "chat-ai";
  // "" where the source has none: its content then tells it from others.
  id: string;
  title: string;
  titled: "automatic" | "own";
  created: number;
  updated: number;
  model: string;
  leaf: string;
  pinned: boolean;
  // A folder's name; "" for none.
  folder: string;
  settings: Settings;
  // Parents before what follows them.
  messages: FoundMessage[];
  files: FoundFile[];
  // How many files the source names that cannot be taken along.
  lost: number;
}

// --- Reading values of unknown origin ---------------------------------------------------------------------

export type Fields = Record<string, unknown>;

export function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

export { list };

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

// A time in seconds, milliseconds, microseconds or nanoseconds, which programs all write, as milliseconds. 0 for none.
export function time(value: unknown): number {
  if (typeof value === "string") return Number.isNaN(Date.parse(value)) ? 0 : Date.parse(value);
  if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) return 0;
  if (value < 1e11) return Math.round(value * 1e3);
  if (value < 1e14) return Math.round(value);
  return Math.round(value < 1e17 ? value / 1e3 : value / 1e6);
}

export function numbers(row: Fields, names: readonly (keyof Settings)[]): Settings {
  const found: Fields = {};
  for (const name of names) if (typeof row[name] === "number") found[name] = row[name];
  return found as Settings;
}

const DATA_URL = /^data:([\w.+-]+\/[\w.+-]+)?((?:;[^;,]*)*),/;

// A file in a data: URL. Undefined for anything else: nothing is loaded from elsewhere.
export function fromDataUrl(url: unknown, id: string, name: string): FoundFile | undefined {
  const given = text(url);
  const [head = "", type = "", more = ""] = DATA_URL.exec(given.slice(0, 300)) ?? [];
  if (!head || !more.endsWith(";base64")) return undefined;
  return fromBase64(given.slice(head.length), type, id, name);
}

export function fromBase64(data: string, type: string, id: string, name: string): FoundFile {
  const kind = type.startsWith("image/") ? "image" : type.startsWith("audio/") ? "audio" : "text";
  return { id, name, kind, type, size: Math.floor((data.length * 3) / 4), base64: data };
}
