// The export of GWDG's Chat AI: one conversation, {title, model, temperature, …, messages: [{role, content}]}, or several
// in `conversations`. A bare list of messages, as programs of many kinds write it, is read too.
import type { Settings } from "../store/rows.ts";
import {
  type Fields,
  type Found,
  type FoundFile,
  fields,
  fromBase64,
  fromDataUrl,
  list,
  numbers,
  text,
  time,
} from "./found.ts";

export function isChatAi(row: Fields): boolean {
  return messagesOf(row).some((one) => typeof fields(one).role === "string");
}

function messagesOf(row: Fields): unknown[] {
  return Array.isArray(row.messages) ? row.messages : list(row.conversation);
}

export function fromChatAi(row: Fields): Found {
  const settings = fields(row.settings);
  const created = time(row.createdAt);
  const found: Found = {
    source: "chat-ai",
    id: text(row.id),
    title: text(row.title) || text(settings.title),
    titled: text(row.title) ? "own" : "automatic",
    created,
    updated: time(row.lastModified) || created,
    model: modelOf(row, settings),
    leaf: "",
    pinned: false,
    folder: "",
    settings: settingsOf(row, settings),
    messages: [],
    files: [],
    lost: 0,
  };
  let parent = "";
  for (const [at, one] of messagesOf(row).map(fields).entries()) {
    const id = `${at}`;
    const { said, files } = contentOf(one.content, id, found);
    if (one.role === "system" && said) found.settings.system ??= said;
    if (one.role !== "user" && one.role !== "assistant") continue;
    // It writes an empty message where two of one kind follow each other.
    if (!said && !files.length) continue;
    const { said: content, reasoning } = one.role === "assistant" ? apart(said) : { said, reasoning: "" };
    found.messages.push({
      id,
      parent,
      role: one.role,
      content,
      created: time(one.createdAt),
      model: one.role === "assistant" ? text(fields(one.meta).model) || found.model : "",
      ...(reasoning ? { reasoning: { text: reasoning, milliseconds: 0 } } : {}),
      ...(files.length ? { files: files.map((file) => file.id) } : {}),
    });
    found.files.push(...files);
    parent = id;
  }
  return found;
}

function modelOf(row: Fields, settings: Fields): string {
  const given = row.model ?? settings.model ?? row.model_api ?? settings.model_api;
  return text(given) || text(fields(given).id);
}

function settingsOf(row: Fields, settings: Fields): Settings {
  const given = { ...settings, ...row };
  const found = numbers(given, ["temperature", "top_p"]);
  const system = text(given.system_prompt) || text(given.systemPrompt);
  return system ? { ...found, system } : found;
}

function contentOf(content: unknown, message: string, found: Found): { said: string; files: FoundFile[] } {
  if (typeof content === "string") return { said: content, files: [] };
  const said: string[] = [];
  const files: FoundFile[] = [];
  const parts = Array.isArray(content) ? content : [content];
  for (const [at, part] of parts.map(fields).entries()) {
    const words = text(part.text) || text(part.data);
    if (words) said.push(words);
    const file = fileIn(part, `${message}:${at}`);
    if (file) files.push(file);
    else if (!words && part.type && part.type !== "text") found.lost += 1;
  }
  return { said: said.join("\n\n"), files };
}

function fileIn(part: Fields, id: string): FoundFile | undefined {
  const name = (inner: Fields, otherwise: string) => text(part.name) || text(inner.filename) || otherwise;
  if (part.type === "image_url") {
    const image = fields(part.image_url);
    return fromDataUrl(image.url, id, name(image, "image"));
  }
  if (part.type === "input_audio") {
    const audio = fields(part.input_audio);
    const type = audio.format === "wav" ? "audio/wav" : "audio/mpeg";
    return text(audio.data) ? fromBase64(text(audio.data), type, id, name(audio, "audio")) : undefined;
  }
  if (part.type !== "file") return undefined;
  const file = fields(part.file);
  const made = fromDataUrl(file.file_data, id, name(file, "file"));
  // Of other files the text is what is stored, and it is not in the export.
  return made && (made.kind !== "text" || made.type.startsWith("text/")) ? made : undefined;
}

// Thoughts stand before the text, between <think> and </think>.
function apart(all: string): { said: string; reasoning: string } {
  const start = all.trimStart();
  const end = start.startsWith("<think>") ? start.indexOf("</think>") : -1;
  if (end < 0) return { said: all, reasoning: "" };
  return { said: start.slice(end + "</think>".length).trimStart(), reasoning: start.slice(7, end).trim() };
}
