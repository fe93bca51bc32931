// Makes rows of what was found in a file: with ids that the same source always has, and with fields that can be shown,
// whatever the file says.
import type { Removed } from "../store/disk.ts";
import { type Attached, type Attachment, asAttached, asConversation, asMessage } from "../store/rows.ts";
import { titleFrom } from "../store/title.ts";
import { type Found, type FoundFile, type FoundMessage, list } from "./found.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const ID = /^[\w.:-]{1,80}$/;

// An id that the same source always has.
export async function idOf(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  const hex = [...new Uint8Array(digest).subarray(0, 16)]
    .map((one) => one.toString(16).padStart(2, "0"))
    .join("");
  // A UUID of version 8: one of our own making.
  const parts = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `a${hex.slice(17, 20)}`,
    hex.slice(20),
  ];
  return parts.join("-");
}

function contentOf({ title, messages }: Found): string {
  return JSON.stringify([title, messages.map(({ role, content }) => [role, content])]);
}

// The rows of a conversation, as the page's own. Whatever a file says, they can be shown.
export async function settle(found: Found): Promise<Removed> {
  const own = found.source === "sluice";
  const id =
    own && UUID.test(found.id) ? found.id : await idOf(`${found.source}\n${found.id || contentOf(found)}`);
  const ids = new Map<string, string>();
  for (const [at, message] of found.messages.entries()) {
    const plain = ID.test(message.id);
    ids.set(message.id, own && plain ? message.id : `${id}:${plain ? message.id : at}`);
  }
  const fileIds = new Map<string, string>();
  for (const [at, file] of found.files.entries()) {
    fileIds.set(file.id, own && UUID.test(file.id) ? file.id : `${id}:file:${at}`);
  }
  const files = await Promise.all(found.files.map((file) => fileRow(file, fileIds.get(file.id) ?? "", id)));
  const attachments = files.filter((file) => file.bytes || file.pages);
  const messages = rowsOf(
    found,
    id,
    ids,
    (file) => {
      const row = attachments.find((one) => one.id === fileIds.get(file));
      return row && asAttached(row);
    },
    fileIds,
  );
  const words = found.messages.find((one) => one.role === "user")?.content ?? "";
  const last = messages.reduce((latest, row) => Math.max(latest, row.created), 0);
  const conversation = asConversation({
    ...found,
    id,
    title: found.title.trim().slice(0, 200) || titleFrom(words),
    created: found.created || messages[0]?.created,
    updated: found.updated || last,
    leaf: ids.get(found.leaf) ?? "",
    folder: "",
  });
  return { conversations: [conversation], messages, drafts: [], attachments };
}

// Messages that follow the same one are shown in the order of their times: that of the file is kept.
function rowsOf(
  found: Found,
  conversation: string,
  ids: ReadonlyMap<string, string>,
  attached: (file: string) => Attached | undefined,
  fileIds: ReadonlyMap<string, string>,
) {
  let last = found.created || found.updated || Date.now();
  return found.messages.map((message: FoundMessage) => {
    last = Math.max(message.created || last + 1, last + 1);
    const given = list(message.attachments)
      .map(asAttached)
      .map((one) => ({ ...one, id: fileIds.get(one.id) ?? one.id }));
    const own = (message.files ?? []).flatMap((file) => attached(file) ?? []);
    return asMessage({
      state: "done",
      ...message,
      id: ids.get(message.id),
      conversation,
      parent: ids.get(message.parent) ?? "",
      created: found.source === "sluice" && message.created ? message.created : last,
      attachments: given.length ? given : own,
    });
  });
}

async function fileRow(file: FoundFile, id: string, conversation: string): Promise<Attachment> {
  const { name, kind, type, size } = file;
  const plain = { id, conversation, name: name || "file", kind, type, size, created: Date.now() };
  if (file.pages) return { ...plain, pages: file.pages, ...(file.cut ? { cut: file.cut } : {}) };
  const bytes = bytesOf(file);
  if (!bytes) return { ...plain };
  if (kind === "text") return { ...plain, pages: [{ name: "", text: await bytes.text() }] };
  return { ...plain, bytes };
}

// So many characters of base64 are decoded at once: a multiple of four.
const PIECE = 65_536;

function bytesOf({ base64 = "", type }: FoundFile): Blob | undefined {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  try {
    for (let at = 0; at < base64.length; at += PIECE) {
      const raw = atob(base64.slice(at, at + PIECE));
      parts.push(Uint8Array.from(raw, (sign) => sign.charCodeAt(0)));
    }
  } catch {
    return undefined;
  }
  return parts.length ? new Blob(parts, { type }) : undefined;
}
