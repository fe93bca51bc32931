// The page's own form: docs/page-export.md describes it, page/export.schema.json is its JSON Schema.
import type { Settings, State, Usage } from "../store/rows.ts";
import {
  type Fields,
  type Found,
  type FoundFile,
  type FoundMessage,
  fields,
  list,
  text,
  time,
} from "./found.ts";

export function isOwn(row: Fields): boolean {
  return Array.isArray(row.messages) && typeof row.leaf === "string";
}

export function fromOwn(row: Fields): Found {
  return {
    source: "sluice",
    id: text(row.id),
    title: text(row.title),
    titled: row.titled === "automatic" ? "automatic" : "own",
    created: time(row.created),
    updated: time(row.updated),
    model: text(row.model),
    leaf: text(row.leaf),
    pinned: row.pinned === true,
    folder: text(row.folder),
    settings: fields(row.settings) as Settings,
    messages: list(row.messages).map(fields).map(messageOf),
    files: list(row.attachments).map(fields).map(fileOf),
    lost: 0,
  };
}

// The page reads each field as it reads its own rows: what is not as it should be is replaced there.
function messageOf(row: Fields): FoundMessage {
  const attachments = list(row.attachments);
  return {
    id: text(row.id),
    parent: text(row.parent),
    role: row.role === "user" ? "user" : "assistant",
    content: text(row.content),
    created: time(row.created),
    model: text(row.model),
    state: row.state === "writing" ? "cut" : (text(row.state) as State),
    ...(row.reasoning ? { reasoning: reasoningOf(fields(row.reasoning)) } : {}),
    ...(row.usage ? { usage: fields(row.usage) as unknown as Usage } : {}),
    ...(attachments.length ? { attachments } : {}),
  };
}

function reasoningOf(row: Fields) {
  return { text: text(row.text), milliseconds: typeof row.milliseconds === "number" ? row.milliseconds : 0 };
}

function fileOf(row: Fields): FoundFile {
  const kind = row.kind === "image" || row.kind === "audio" ? row.kind : "text";
  const made: FoundFile = {
    id: text(row.id),
    name: text(row.name),
    kind,
    type: text(row.type),
    size: typeof row.size === "number" ? row.size : 0,
  };
  if (row.cut === true) made.cut = true;
  if (typeof row.base64 === "string") made.base64 = row.base64;
  if (Array.isArray(row.pages)) {
    made.pages = row.pages.map(fields).map((page) => ({ name: text(page.name), text: text(page.text) }));
  }
  return made;
}
