// Conversations as files: JSON, from which they can be taken in again (docs/page-export.md), and Markdown to read.
import { base64 } from "../attachments/sent.ts";
import type { Attachment, Conversation, Message } from "../store/rows.ts";
import { path } from "../store/tree.ts";
import { t } from "../texts.ts";
import { FORMAT, VERSION } from "../transfer/form.ts";
import { attachment, conversations, shown, stored } from "./library.ts";
import { say } from "./said.ts";
import { folders, personas, prompts, set, settings } from "./shelves.ts";

// When everything was last exported: of no use elsewhere.
export const EXPORTED = "exported";

const NAME_LENGTH = 80;
// A download has begun long before, in milliseconds.
const KEEP_FILE = 60_000;

// --- Files -------------------------------------------------------------------------------------------------

// Gives a file to the reader, by the browser's download.
export function save(parts: BlobPart[], type: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEEP_FILE);
}

// What any system takes as a name of a file.
export function fileName(title: string): string {
  const plain = title.replace(/[\p{C}\\/:*?"<>|]+/gu, " ").replace(/\s+/g, " ");
  return (
    [...plain]
      .slice(0, NAME_LENGTH)
      .join("")
      .replace(/^[ .]+|[ .]+$/g, "") || "conversation"
  );
}

function nameOf(rows: readonly Conversation[], kind: string): string {
  const [row] = rows;
  const today = new Date().toISOString().slice(0, 10);
  return row && rows.length === 1 ? `${fileName(row.title)}.${kind}` : `sluice-${today}.${kind}`;
}

// What there is of a conversation: in memory where it is on view, else on the disk.
async function messagesOf(id: string): Promise<Message[]> {
  const here = shown(id);
  return here ? [...here.value.values()] : stored((disk) => disk.messages(id), []);
}

// --- JSON ----------------------------------------------------------------------------------------------------

async function fileAsJson({ conversation: _its, bytes, created: _then, ...plain }: Attachment) {
  return bytes ? { ...plain, base64: await base64(bytes) } : plain;
}

async function asJson(row: Conversation): Promise<string> {
  const { folder, temporary: _none, ...plain } = row;
  const all = (await messagesOf(row.id)).sort((one, other) => one.created - other.created);
  const ids = new Set(all.flatMap((message) => message.attachments ?? []).map((one) => one.id));
  const attachments = [];
  for (const id of ids) {
    const file = await attachment(id);
    if (file) attachments.push(await fileAsJson(file));
  }
  return JSON.stringify({
    ...plain,
    folder: folders.value.find((one) => one.id === folder)?.name ?? "",
    messages: all.map(({ conversation: _its, ...message }) => message),
    attachments,
  });
}

// The text of an export, in parts: a long one is never one string.
export async function jsonParts(rows: readonly Conversation[], everything: boolean): Promise<Blob[]> {
  const head = { format: FORMAT, version: VERSION, exported: new Date().toISOString() };
  const parts = [new Blob([JSON.stringify(head).slice(0, -1), ',\n"conversations": [\n'])];
  for (const [at, row] of rows.entries()) parts.push(new Blob([at ? ",\n" : "", await asJson(row)]));
  const own = Object.fromEntries([...settings.value].filter(([name]) => name !== EXPORTED));
  const beside = everything ? { personas: personas.value, prompts: prompts.value, settings: own } : {};
  const tail = JSON.stringify(beside).slice(1, -1);
  parts.push(new Blob(["\n]", tail ? `,\n${tail}` : "", "}\n"]));
  return parts;
}

async function saving(make: () => Promise<void>): Promise<boolean> {
  try {
    await make();
    say(t("exported"));
    return true;
  } catch {
    say(t("export_failed"));
    return false;
  }
}

export function saveJson(rows: readonly Conversation[]): Promise<boolean> {
  return saving(async () => {
    save(await jsonParts(rows, false), "application/json", nameOf(rows, "json"));
  });
}

// All conversations with all that stands beside them.
export function saveEverything(): Promise<boolean> {
  return saving(async () => {
    const rows = conversations.value.filter((row) => !row.temporary);
    save(await jsonParts(rows, true), "application/json", nameOf([], "json"));
    set(EXPORTED, Date.now());
  });
}

// --- Markdown ------------------------------------------------------------------------------------------------

// The branch on view.
export async function asMarkdown(row: Conversation): Promise<string> {
  const all = new Map((await messagesOf(row.id)).map((message) => [message.id, message]));
  const turns = path(all, row.leaf).map((message) => {
    const { role, content, model, attachments = [], reasoning } = message;
    const heading = role === "user" ? t("you") : model ? `${t("assistant")} (${model})` : t("assistant");
    const names = attachments.map((one) => one.name).join(", ");
    return [
      `## ${heading}`,
      names && `*${t("attached_names", { names })}*`,
      reasoning?.text.replace(/^/gm, "> "),
      content.trim(),
    ]
      .filter(Boolean)
      .join("\n\n");
  });
  return `${[`# ${row.title.replace(/\s+/g, " ")}`, ...turns].join("\n\n")}\n`;
}

export function saveMarkdown(rows: readonly Conversation[]): Promise<boolean> {
  return saving(async () => {
    const parts: Blob[] = [];
    for (const [at, row] of rows.entries()) parts.push(new Blob([at ? "\n" : "", await asMarkdown(row)]));
    save(parts, "text/markdown", nameOf(rows, "md"));
  });
}
