// The conversations as the page has them: in memory for what is shown, on the disk for all else. What is shown changes
// at once; what goes to the disk goes in order, and what could not be stored waits there until it can be.
import { type Signal, signal } from "@preact/signals";
import { Disk, nothing, type Removed } from "../store/disk.ts";
import {
  type Attachment,
  asConversation,
  asMessage,
  type Conversation,
  type Draft,
  type Message,
} from "../store/rows.ts";
import { below, type Messages, newest, path } from "../store/tree.ts";
import { lockName } from "./locks.ts";

// opening, then ok. memory: the browser forbids storage. blocked: an older page holds it. newer: a newer page has been
// here. outdated: a newer page is here now. full, failed: what is written now is not stored.
export type StorageState = "opening" | "ok" | "memory" | "blocked" | "newer" | "outdated" | "full" | "failed";

export const storage = signal<StorageState>("opening");
export const conversations = signal<readonly Conversation[]>([]);
// The conversation on view; "" for a new one.
export const current = signal("");
// The conversation that an address named and that is not here; "" for none.
export const lost = signal("");

export interface Note {
  kind: "conversation" | "message" | "draft" | "shelf" | "setting";
  // Of a shelf or a setting, its name.
  conversation: string;
  message: string;
}

interface Operation {
  run: (disk: Disk) => Promise<unknown>;
  notes: Note[];
  // A later one with the same key takes the place of one that waits.
  key: string;
}

const threads = new Map<string, Signal<Messages>>();
const listeners = new Set<(note: Note) => void>();
const waiting: Operation[] = [];
let disk: Disk | null = null;
let channel: BroadcastChannel | null = null;
let draining: Promise<void> | null = null;

export function note(kind: Note["kind"], conversation: string, message = ""): Note {
  return { kind, conversation, message };
}

// --- Opening ---------------------------------------------------------------------------------------------

export async function start(user: string): Promise<void> {
  channel = "BroadcastChannel" in window ? new BroadcastChannel(`sluice-${user}`) : null;
  channel?.addEventListener("message", (event: MessageEvent<Note>) => heard(event.data));
  try {
    disk = await Disk.open(user, {
      onBlocked: () => (storage.value = "blocked"),
      onOutdated: () => (storage.value = "outdated"),
    });
    const rows = await disk.conversations();
    // Somebody may have begun to write before the database was open.
    const begun = conversations.value;
    conversations.value = sorted([
      ...begun,
      ...rows.filter((row) => !begun.some((one) => one.id === row.id)),
    ]);
    storage.value = "ok";
    await retryStorage();
  } catch (error) {
    disk = null;
    waiting.length = 0;
    storage.value = named(error) === "VersionError" ? "newer" : "memory";
  }
}

function named(error: unknown): string {
  return error instanceof Error || error instanceof DOMException ? error.name : "";
}

function sorted(rows: readonly Conversation[]): Conversation[] {
  return [...rows].sort((one, other) => other.updated - one.updated);
}

// --- Writing ---------------------------------------------------------------------------------------------

// Stores what has changed, now or when it becomes possible. Resolves when it was tried.
export async function persist(run: Operation["run"], notes: Note[], key = ""): Promise<void> {
  if (!disk && storage.value !== "opening" && storage.value !== "blocked") return;
  const at = key ? waiting.findIndex((one, index) => one.key === key && (index > 0 || !draining)) : -1;
  if (at >= 0) waiting[at] = { run, notes, key };
  else waiting.push({ run, notes, key });
  draining ??= drain().finally(() => {
    draining = null;
  });
  await draining;
}

async function drain(): Promise<void> {
  for (let next = waiting[0]; next && disk; next = waiting[0]) {
    try {
      await next.run(disk);
    } catch (error) {
      if (storage.value !== "outdated") {
        storage.value = named(error) === "QuotaExceededError" ? "full" : "failed";
      }
      return;
    }
    waiting.shift();
    for (const one of next.notes) channel?.postMessage(one);
  }
  if (storage.value === "full" || storage.value === "failed") storage.value = "ok";
}

// As `persist`, for what belongs to a conversation: what is temporary is not stored.
function persistFor(conversation: string, run: Operation["run"], notes: Note[], key = ""): Promise<void> {
  return find(conversation)?.temporary ? Promise.resolve() : persist(run, notes, key);
}

// What the database has, and `otherwise` where there is none.
export async function stored<Value>(read: (disk: Disk) => Promise<Value>, otherwise: Value): Promise<Value> {
  return disk ? read(disk) : otherwise;
}

// Whether there is a database.
export function isStored(): boolean {
  return disk !== null;
}

// Tries again what could not be stored.
export function retryStorage(): Promise<void> {
  return persist(async () => {}, []);
}

// --- Other tabs ------------------------------------------------------------------------------------------

export function onNote(listener: (note: Note) => void): void {
  listeners.add(listener);
}

async function heard(said: Note): Promise<void> {
  if (!disk) return;
  if (said.kind === "conversation") {
    const row = await disk.conversation(said.conversation);
    if (row) put(row);
    else forget(said.conversation);
  } else if (said.kind === "message") {
    const thread = threads.get(said.conversation);
    if (thread) {
      const row = await disk.message(said.message);
      setMessage(thread, said.message, row);
      if (row) watch(row);
    }
  }
  for (const listener of listeners) listener(said);
}

// --- Conversations ---------------------------------------------------------------------------------------

export function find(id: string): Conversation | undefined {
  return conversations.value.find((row) => row.id === id);
}

function put(row: Conversation): void {
  conversations.value = sorted([...conversations.value.filter((one) => one.id !== row.id), row]);
}

function forget(id: string): void {
  conversations.value = conversations.value.filter((row) => row.id !== id);
  threads.delete(id);
}

export function begin(row: Conversation): void {
  put(row);
  threads.set(row.id, signal(new Map()));
  persistFor(row.id, (to) => to.begin(row), [note("conversation", row.id)]);
}

export function change(id: string, changes: Partial<Conversation>): void {
  const row = find(id);
  if (!row) return;
  put({ ...row, ...changes });
  persistFor(id, (to) => to.change(id, changes), [note("conversation", id)]);
}

// Where the reader looks, without storing it: an answer that has not begun may never come.
export function look(id: string, leaf: string): void {
  const row = find(id);
  if (row) put({ ...row, leaf });
}

// Takes conversations away, and returns what puts them back.
export async function remove(ids: readonly string[]): Promise<Removed> {
  const removed = nothing();
  for (const id of ids) {
    const row = find(id);
    if (row) removed.conversations.push(row);
    removed.messages.push(...(await thread(id)).value.values());
    forget(id);
  }
  const stored = ids.filter((id) => !removed.conversations.some((row) => row.id === id && row.temporary));
  await persist(
    async (to) => {
      const found = await to.remove(stored);
      // As they were stored, with what a page of another version has put there.
      removed.drafts = found.drafts;
      removed.attachments = found.attachments;
      const rows = new Map(found.conversations.map((row) => [row.id, row]));
      removed.conversations = removed.conversations.map((row) => ({ ...rows.get(row.id), ...row }));
      const messages = new Map(found.messages.map((row) => [row.id, row]));
      removed.messages = removed.messages.map((row) => messages.get(row.id) ?? row);
    },
    stored.map((id) => note("conversation", id)),
  );
  return removed;
}

export function restore(removed: Removed): void {
  for (const row of removed.conversations) put(row.temporary ? row : asConversation(row));
  for (const row of removed.messages) {
    const message = asMessage(row);
    const shown = threads.get(message.conversation);
    if (shown) setMessage(shown, message.id, message);
    else if (!disk || find(message.conversation)?.temporary) keep(message);
  }
  const lasting = (id: string) => !find(id)?.temporary;
  const stored: Removed = {
    conversations: removed.conversations.filter((row) => !row.temporary),
    messages: removed.messages.filter((row) => lasting(row.conversation)),
    drafts: removed.drafts,
    attachments: removed.attachments.filter((row) => lasting(row.conversation)),
  };
  const notes = stored.conversations.map((row) => note("conversation", row.id));
  for (const message of stored.messages) notes.push(note("message", message.conversation, message.id));
  persist((to) => to.takeIn(stored), notes);
}

function keep(message: Message): void {
  const shown = threads.get(message.conversation) ?? signal<Messages>(new Map());
  threads.set(message.conversation, shown);
  setMessage(shown, message.id, message);
}

// --- Messages --------------------------------------------------------------------------------------------

// The messages of a conversation. Those of others are let go of, unless `needed` says that something goes on there.
export async function thread(id: string): Promise<Signal<Messages>> {
  const known = threads.get(id);
  if (known) return known;
  const rows = disk ? await disk.messages(id) : [];
  const made = threads.get(id) ?? signal<Messages>(new Map(rows.map((row) => [row.id, row])));
  threads.set(id, made);
  for (const row of rows) watch(row);
  return made;
}

export function letGo(needed: (id: string) => boolean): void {
  if (!disk || waiting.length) return;
  for (const id of threads.keys()) if (!needed(id) && !find(id)?.temporary) threads.delete(id);
}

export function shown(id: string): Signal<Messages> | undefined {
  return threads.get(id);
}

function setMessage(thread: Signal<Messages>, id: string, row: Message | undefined): void {
  const changed = new Map(thread.value);
  if (row) changed.set(id, row);
  else changed.delete(id);
  thread.value = changed;
}

// Adds a message at the end of what is shown, without storing it yet.
export function append(message: Message): void {
  const into = threads.get(message.conversation);
  if (into) setMessage(into, message.id, message);
}

export function store(message: Message, leaf = true): void {
  persistFor(
    message.conversation,
    async (to) => {
      await to.add(message);
      const changes = { updated: Date.now(), ...(leaf ? { leaf: message.id } : {}) };
      await to.change(message.conversation, changes);
    },
    [note("message", message.conversation, message.id), note("conversation", message.conversation)],
  );
}

// Changes a message here and on the disk, there only while it is in the state `from`.
export function write(message: Message, changes: Partial<Message>, from: Message["state"]): void {
  const into = threads.get(message.conversation);
  const row = into?.value.get(message.id);
  if (into && row) setMessage(into, message.id, { ...row, ...changes });
  const told = [note("message", message.conversation, message.id)];
  persistFor(message.conversation, (to) => to.write(message.id, changes, from), told);
}

// Stores how far an answer has come; what is shown comes from the answer itself.
export function save(message: Message, come: Partial<Message>): Promise<void> {
  const told = [note("message", message.conversation, message.id)];
  return persistFor(message.conversation, (to) => to.write(message.id, come), told, `save ${message.id}`);
}

export function drop(message: Message): void {
  const into = threads.get(message.conversation);
  if (into) setMessage(into, message.id, undefined);
}

// Takes a message away with all that follows it, and returns what puts it back.
export function removeFrom(message: Message): Removed {
  const into = threads.get(message.conversation);
  const ids = into ? below(into.value, message.id) : [];
  const messages = ids.flatMap((id) => into?.value.get(id) ?? []);
  if (into) into.value = new Map([...into.value].filter(([id]) => !ids.includes(id)));
  const notes = ids.map((id) => note("message", message.conversation, id));
  persistFor(message.conversation, (to) => to.removeMessages(ids), notes);
  const after = into ? newest(into.value, message.parent) : "";
  change(message.conversation, { leaf: after });
  return { ...nothing(), messages };
}

// What is shown of a conversation, from its first message to where the reader looks.
export function visible(id: string): Message[] {
  const messages = threads.get(id)?.value;
  return messages ? path(messages, find(id)?.leaf ?? "") : [];
}

// --- Answers that ended with their page --------------------------------------------------------------------

const watched = new Set<string>();

// An answer is under way as long as the page that gets it holds the answer's lock. When that is free and the answer has
// not ended, the page has: it was closed, reloaded or killed.
async function watch(message: Message): Promise<void> {
  if (message.state !== "writing" || watched.has(message.id)) return;
  watched.add(message.id);
  const ended = async () => {
    const row = await disk?.message(message.id);
    if (row?.state === "writing") write(row, { content: row.content, state: "cut" }, "writing");
  };
  try {
    if (navigator.locks) await navigator.locks.request(lockName(message.id), ended);
    else await ended();
  } finally {
    watched.delete(message.id);
  }
}

// Says of an answer that this page gets it.
export function own(id: string): void {
  watched.add(id);
}

export function disown(id: string): void {
  watched.delete(id);
}

// --- How much is stored ------------------------------------------------------------------------------------

export const kept = signal<{ bytes: number; safe: boolean } | null>(null);

// Asks the browser to keep what is stored when it runs out of space, and notes what it says.
export async function askToKeep(ask: boolean): Promise<void> {
  if (!disk || !navigator.storage?.estimate) return;
  const safe = ask ? await navigator.storage.persist() : await navigator.storage.persisted();
  kept.value = { bytes: (await navigator.storage.estimate()).usage ?? 0, safe };
}

// --- Drafts and attachments, as the disk has them -----------------------------------------------------------

export async function storedDraft(conversation: string): Promise<string> {
  return (await disk?.draft(conversation))?.text ?? "";
}

export function storeDraft(conversation: string, text: string): Promise<void> {
  return changeDraft(conversation, { text }, `draft ${conversation}`);
}

// Changes what a draft has; other fields of it stay.
export function changeDraft(conversation: string, changes: Partial<Draft>, key = ""): Promise<void> {
  return persistFor(
    conversation,
    (to) => to.setDraft(conversation, changes),
    [note("draft", conversation)],
    key,
  );
}

// Those that are not on the disk: of temporary conversations, and where nothing can be stored.
const held = new Map<string, Attachment>();

export async function attachment(id: string): Promise<Attachment | undefined> {
  return held.get(id) ?? (await disk?.attachment(id));
}

// Holds an attachment until it is stored; that of a temporary conversation as long as that lasts.
export async function keepAttachment(row: Attachment): Promise<void> {
  held.set(row.id, row);
  await persistFor(
    row.conversation,
    async (to) => {
      await to.addAttachment(row);
      held.delete(row.id);
    },
    [],
  );
}

// Says what attachments belong to, once that exists.
export function giveAttachments(ids: readonly string[], conversation: string): void {
  for (const id of ids) {
    const row = held.get(id);
    if (row) held.set(id, { ...row, conversation });
  }
  persistFor(conversation, (to) => to.giveAttachments(ids, conversation), []);
}

export function removeAttachments(ids: readonly string[]): void {
  for (const id of ids) held.delete(id);
  persist((to) => to.removeAttachments(ids), []);
}
