// What is stored, in this browser and nowhere else: one database for each person who signs in here. Version 4.
// docs/page-storage.md describes every table for people.
// A conversation is a tree of messages: each has the one that it follows as its parent, and what was written or
// answered anew stands beside what it replaces.
export const VERSION = 4;

// How a model is asked. What is absent, the defaults decide, and where they are silent the model.
export interface Settings {
  // Instructions that go before the conversation.
  system?: string;
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  seed?: number;
  // The id of the persona that the others came from.
  persona?: string;
}

export interface Conversation {
  id: string;
  title: string;
  // Who chose the title: the page, from the first words or by asking a model, or the reader. What a reader chose stays.
  titled: "automatic" | "own";
  // Milliseconds since the epoch, here and below.
  created: number;
  updated: number;
  // What it was asked last.
  model: string;
  // The message at whose end the reader looks; "" for the newest.
  leaf: string;
  pinned: boolean;
  // The id of the folder that it lies in; "" for none.
  folder: string;
  settings: Settings;
  // It lives in this page alone and is never stored. No row on the disk has this.
  temporary?: true;
}

// writing: its answer is under way, or was when the page ended. stopped: by the reader. cut: the page was closed or
// reloaded. broken: the stream ended with an error. length: the model may write no more at once.
export type State = "done" | "writing" | "stopped" | "cut" | "broken" | "length";
export const STATES: readonly State[] = ["done", "writing", "stopped", "cut", "broken", "length"];

// What a model thought before it answered.
export interface Reasoning {
  text: string;
  milliseconds: number;
}

// What an answer cost, as the engine counted, and how long it took from its first piece to its last.
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  milliseconds: number;
}

// What a model gets of it: a picture, a sound, or text, whatever file the text came from.
export type Kind = "image" | "audio" | "text";
export const KINDS: readonly Kind[] = ["image", "audio", "text"];

// What a message says of a file that belongs to it.
export interface Attached {
  // The id of its Attachment.
  id: string;
  name: string;
  kind: Kind;
  // Of the file, in bytes.
  size: number;
  // Which pages of it are sent, by position from 0; absent for all.
  pages?: number[];
}

export interface Message {
  id: string;
  conversation: string;
  // "" for a conversation's first.
  parent: string;
  role: "user" | "assistant";
  content: string;
  created: number;
  state: State;
  // Which model answered; "" for a question.
  model: string;
  reasoning?: Reasoning;
  usage?: Usage;
  attachments?: Attached[];
}

// What a message is to become that somebody writes anew.
export interface Edit {
  // The id of the message.
  message: string;
  text: string;
  // Absent where it has the message's.
  attachments?: Attached[];
}

// What somebody has typed and not sent, by conversation; NEW for a new one.
export interface Draft {
  conversation: string;
  text: string;
  attachments?: Attached[];
  edit?: Edit;
}

export const NEW = "new";

export interface Folder {
  id: string;
  name: string;
  created: number;
}

// A way to be answered, with a name: settings under which conversations begin.
export interface Persona {
  id: string;
  name: string;
  description: string;
  settings: Settings;
  created: number;
}

// A text that the reader uses again and again.
export interface Prompt {
  id: string;
  name: string;
  text: string;
  created: number;
}

// A page of a document, a sheet of a table, a slide. A text without any is one page without a name.
export interface Page {
  name: string;
  text: string;
}

export interface Attachment {
  id: string;
  // What it belongs to and is deleted with; NEW until the first question is sent.
  conversation: string;
  name: string;
  kind: Kind;
  size: number;
  // The file's MIME type.
  type: string;
  created: number;
  // The file itself, of pictures and sounds.
  bytes?: Blob;
  // Its text.
  pages?: Page[];
  // The file has more text than is kept of it.
  cut?: true;
}

// What the reader has set for all conversations: one row for each setting, under its name.
export interface Setting {
  name: string;
  value: unknown;
}

// --- Reading what an earlier or later page has stored -------------------------------------------------
// Whatever a row holds, what comes out can be shown: unknown values become the nearest known ones. The row on the disk
// stays as it is: changes are made to it, not to what was read.

function text(value: unknown, otherwise = ""): string {
  return typeof value === "string" ? value : otherwise;
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

export function fields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

// Fields that a later page adds stay: settings are changed as a whole.
export function asSettings(value: unknown): Settings {
  const row: Record<string, unknown> = { ...fields(value) };
  for (const name of ["system", "persona"]) if (typeof row[name] !== "string") delete row[name];
  for (const name of ["temperature", "top_p"]) if (!Number.isFinite(row[name])) delete row[name];
  for (const name of ["max_tokens", "seed"]) if (!Number.isSafeInteger(row[name])) delete row[name];
  return row as Settings;
}

export function asConversation(value: unknown): Conversation {
  const row = fields(value);
  return {
    id: text(row.id),
    title: text(row.title),
    titled: row.titled === "own" ? "own" : "automatic",
    created: number(row.created),
    updated: number(row.updated),
    model: text(row.model),
    leaf: text(row.leaf),
    pinned: row.pinned === true,
    folder: text(row.folder),
    settings: asSettings(row.settings),
  };
}

export function asMessage(value: unknown): Message {
  const row = fields(value);
  const made: Message = {
    id: text(row.id),
    conversation: text(row.conversation),
    parent: text(row.parent),
    role: row.role === "user" ? "user" : "assistant",
    content: text(row.content),
    created: number(row.created),
    state: STATES.find((state) => state === row.state) ?? "done",
    model: text(row.model),
  };
  const thought = fields(row.reasoning);
  if (text(thought.text))
    made.reasoning = { text: text(thought.text), milliseconds: number(thought.milliseconds) };
  if (row.usage) made.usage = asUsage(row.usage);
  if (list(row.attachments).length) made.attachments = list(row.attachments).map(asAttached);
  return made;
}

function asUsage(value: unknown): Usage {
  const row = fields(value);
  return {
    prompt_tokens: number(row.prompt_tokens),
    completion_tokens: number(row.completion_tokens),
    milliseconds: number(row.milliseconds),
  };
}

function asKind(value: unknown): Kind {
  return KINDS.find((kind) => kind === value) ?? "text";
}

export function asAttached(value: unknown): Attached {
  const row = fields(value);
  const made: Attached = {
    id: text(row.id),
    name: text(row.name),
    kind: asKind(row.kind),
    size: number(row.size),
  };
  if (Array.isArray(row.pages)) made.pages = row.pages.filter((page) => Number.isSafeInteger(page));
  return made;
}

export function asAttachment(value: unknown): Attachment {
  const row = fields(value);
  const made: Attachment = {
    id: text(row.id),
    conversation: text(row.conversation),
    name: text(row.name),
    kind: asKind(row.kind),
    size: number(row.size),
    type: text(row.type),
    created: number(row.created),
  };
  if (row.bytes instanceof Blob) made.bytes = row.bytes;
  if (Array.isArray(row.pages)) {
    made.pages = row.pages.map(fields).map((page) => ({ name: text(page.name), text: text(page.text) }));
  }
  if (row.cut === true) made.cut = true;
  return made;
}

export function asDraft(value: unknown): Draft {
  const row = fields(value);
  const made: Draft = { conversation: text(row.conversation), text: text(row.text) };
  if (list(row.attachments).length) made.attachments = list(row.attachments).map(asAttached);
  const edit = asEdit(row.edit);
  if (edit) made.edit = edit;
  return made;
}

// undefined for what names no message.
export function asEdit(value: unknown): Edit | undefined {
  const row = fields(value);
  if (!text(row.message)) return undefined;
  const made: Edit = { message: text(row.message), text: text(row.text) };
  if (Array.isArray(row.attachments)) made.attachments = row.attachments.map(asAttached);
  return made;
}

export function asFolder(value: unknown): Folder {
  const row = fields(value);
  return { id: text(row.id), name: text(row.name), created: number(row.created) };
}

export function asPersona(value: unknown): Persona {
  const row = fields(value);
  return {
    ...asFolder(value),
    description: text(row.description),
    settings: asSettings(row.settings),
  };
}

export function asPrompt(value: unknown): Prompt {
  return { ...asFolder(value), text: text(fields(value).text) };
}

// --- Version 1 ------------------------------------------------------------------------------------------

// Its notes, as states.
const NOTES: Record<string, State> = { stopped_note: "stopped", broken_off: "broken" };

// A conversation of version 1 has its messages in it: {id, title, created, updated, model, messages: [{role, content,
// note?}]}. Ids are made of the conversation's, so that a second upgrade makes no second copy.
export function fromVersion1(value: unknown): { conversation: Conversation; messages: Message[] } {
  const row = fields(value);
  const conversation = asConversation(value);
  const old = list(row.messages).map(fields);
  const id = (at: number) => `${conversation.id}:${at}`;
  const messages = old.map((one, at) => ({
    id: id(at),
    conversation: conversation.id,
    parent: at ? id(at - 1) : "",
    role: one.role === "user" ? ("user" as const) : ("assistant" as const),
    content: text(one.content),
    created: conversation.created + at,
    state: NOTES[text(one.note)] ?? "done",
    model: one.role === "user" ? "" : conversation.model,
  }));
  return { conversation: { ...conversation, leaf: messages.at(-1)?.id ?? "" }, messages };
}
