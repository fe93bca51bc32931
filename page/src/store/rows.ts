// What is stored, in this browser and nowhere else: one database for each person who signs in here. Version 2.
// A conversation is a tree of messages: each has the one that it follows as its parent, and what was written or
// answered anew stands beside what it replaces.
export const VERSION = 2;

export interface Conversation {
  id: string;
  title: string;
  // Milliseconds since the epoch, here and below.
  created: number;
  updated: number;
  // What it was asked last.
  model: string;
  // The message at whose end the reader looks; "" for the newest.
  leaf: string;
}

// writing: its answer is under way, or was when the page ended. stopped: by the reader. cut: the page was closed or
// reloaded. broken: the stream ended with an error. length: the model may write no more at once.
export type State = "done" | "writing" | "stopped" | "cut" | "broken" | "length";
export const STATES: readonly State[] = ["done", "writing", "stopped", "cut", "broken", "length"];

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
}

// What somebody has typed and not sent, by conversation; NEW for a new one.
export interface Draft {
  conversation: string;
  text: string;
}

export const NEW = "new";

// --- Reading what an earlier or later page has stored -------------------------------------------------

function text(value: unknown, otherwise = ""): string {
  return typeof value === "string" ? value : otherwise;
}

function time(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

// Whatever a row holds, what comes out can be shown: unknown values become the nearest known ones.
export function asConversation(value: unknown): Conversation {
  const row = fields(value);
  return {
    id: text(row.id),
    title: text(row.title),
    created: time(row.created),
    updated: time(row.updated),
    model: text(row.model),
    leaf: text(row.leaf),
  };
}

export function asMessage(value: unknown): Message {
  const row = fields(value);
  return {
    id: text(row.id),
    conversation: text(row.conversation),
    parent: text(row.parent),
    role: row.role === "user" ? "user" : "assistant",
    content: text(row.content),
    created: time(row.created),
    state: STATES.find((state) => state === row.state) ?? "done",
    model: text(row.model),
  };
}

// Notes of version 1, as states.
const NOTES: Record<string, State> = { stopped_note: "stopped", broken_off: "broken" };

// A conversation of version 1 has its messages in it: {id, title, created, updated, model, messages: [{role, content,
// note?}]}. Ids are made of the conversation's, so that a second upgrade makes no second copy.
export function fromVersion1(value: unknown): { conversation: Conversation; messages: Message[] } {
  const row = fields(value);
  const conversation = asConversation(value);
  const old = Array.isArray(row.messages) ? row.messages.map(fields) : [];
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
