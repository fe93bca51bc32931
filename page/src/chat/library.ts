// The conversations as the page has them: in memory for what is shown, on the disk for all else. What somebody writes is
// shown at once, what somebody deletes is gone from the page once it is from the disk. What goes to the disk goes in
// order, and what could not be stored waits there until it can be.
import { type Signal, signal } from "@preact/signals";
import { Disk, type DraftChanges, nameOf, type Removed } from "../store/disk.ts";
import type { Attachment, Conversation, Draft, Message } from "../store/rows.ts";
import { type Messages, path } from "../store/tree.ts";
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
  // list: many conversations at once. erased: everything was deleted.
  kind: "conversation" | "message" | "draft" | "shelf" | "setting" | "list" | "erased";
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
  channel = "BroadcastChannel" in window ? new BroadcastChannel(nameOf(user)) : null;
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
  draining ??= drain();
  await draining;
}

async function drain(): Promise<void> {
  // `draining` is set when this goes on. It is cleared in the step that finds nothing more to do: whoever comes later
  // begins anew, and nobody is told that something was tried which was not.
  await null;
  try {
    for (let next = waiting[0]; next && disk; next = waiting[0]) {
      await next.run(disk);
      waiting.shift();
      for (const one of next.notes) channel?.postMessage(one);
    }
    if (storage.value === "full" || storage.value === "failed") storage.value = "ok";
  } catch (error) {
    if (storage.value !== "outdated") {
      storage.value = named(error) === "QuotaExceededError" ? "full" : "failed";
    }
  } finally {
    draining = null;
  }
}

// As `persist`, for what belongs to a conversation: what is temporary is not stored.
export function persistFor(
  conversation: string,
  run: Operation["run"],
  notes: Note[],
  key = "",
): Promise<void> {
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
  if (said.kind === "erased") empty();
  if (said.kind === "list") await reload();
  if (!disk) return;
  if (said.kind === "conversation") {
    const row = await disk.conversation(said.conversation);
    if (row) put(row);
    else forget([said.conversation]);
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

export function put(row: Conversation): void {
  putAll([row]);
}

export function putAll(rows: readonly Conversation[]): void {
  const ids = new Set(rows.map((row) => row.id));
  conversations.value = sorted([...conversations.value.filter((one) => !ids.has(one.id)), ...rows]);
}

// Reads the list anew, and the conversations that are in memory. What is not stored yet, or never, stays.
export async function reload(): Promise<void> {
  await draining;
  if (!disk) return;
  const rows = new Map((await disk.conversations()).map((row) => [row.id, row]));
  const own = conversations.value.filter((row) => row.temporary || (waiting.length && !rows.has(row.id)));
  conversations.value = sorted([...rows.values(), ...own]);
  for (const [id, shown] of [...threads].filter(([id]) => rows.has(id))) {
    const found = await disk.messages(id);
    // What is being written is further here than on the disk.
    const here = [...shown.value.values()].filter((row) => waiting.length || watched.has(row.id));
    shown.value = new Map([...found, ...here].map((row) => [row.id, row]));
  }
}

export function forget(ids: readonly string[]): void {
  const gone = new Set(ids);
  conversations.value = conversations.value.filter((row) => !gone.has(row.id));
  for (const id of ids) threads.delete(id);
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

// As `change`, for what a reader is told is done: it is shown once it is stored, so that a reload at once shows it too.
export async function settle(id: string, changes: Partial<Conversation>): Promise<void> {
  await persistFor(id, (to) => to.change(id, changes), [note("conversation", id)]);
  const row = find(id);
  if (row) put({ ...row, ...changes });
}

// Where the reader looks, without storing it: an answer that has not begun may never come.
export function look(id: string, leaf: string): void {
  const row = find(id);
  if (row) put({ ...row, leaf });
}

// Stores a new conversation with copies of messages, and of what is attached to them.
export async function copy(row: Conversation, from: readonly Message[]): Promise<void> {
  const ids = new Map(from.map((message) => [message.id, crypto.randomUUID()]));
  const files: Attachment[] = [];
  const messages: Message[] = [];
  for (const message of from) {
    const made = { ...message, id: ids.get(message.id) ?? "", parent: ids.get(message.parent) ?? "" };
    made.conversation = row.id;
    if (made.state === "writing") made.state = "cut";
    if (message.attachments) made.attachments = [];
    for (const one of message.attachments ?? []) {
      const id = crypto.randomUUID();
      const file = await attachment(one.id);
      if (file) files.push({ ...file, id, conversation: row.id });
      made.attachments?.push({ ...one, id });
    }
    messages.push(made);
  }
  const made = { ...row, leaf: messages.at(-1)?.id ?? "" };
  put(made);
  threads.set(made.id, signal(new Map(messages.map((message) => [message.id, message]))));
  const taken: Removed = { conversations: [made], messages, drafts: [], attachments: files };
  if (!isStored()) for (const file of files) held.set(file.id, file);
  await persist((to) => to.takeIn(taken), [note("conversation", made.id)]);
}

// Takes in what came from a file: what is here already stays as it is. Says how many messages are new.
export async function takeIn(taken: Removed): Promise<number> {
  if (disk) return disk.takeIn(taken);
  let added = 0;
  for (const row of taken.conversations) if (!find(row.id)) put(row);
  for (const row of taken.messages) {
    if (threads.get(row.conversation)?.value.has(row.id)) continue;
    keep(row);
    added += 1;
  }
  for (const row of taken.attachments) held.set(row.id, row);
  return added;
}

// Everything that somebody wrote goes, from memory too, and what waits to be stored is not stored any more.
function empty(): void {
  waiting.length = draining ? 1 : 0;
  conversations.value = [];
  threads.clear();
  held.clear();
}

// Deletes everything that is stored for this person in this browser, here and in other tabs.
// Raises where the browser cannot.
export async function erase(user: string): Promise<void> {
  waiting.length = draining ? 1 : 0;
  await draining;
  if (disk) await disk.clear();
  else if (storage.value === "newer" || storage.value === "blocked") await Disk.destroy(user);
  // What is shown as deleted is.
  empty();
  channel?.postMessage(note("erased", ""));
  for (const listener of listeners) listener(note("erased", ""));
}

// Tells other tabs that the list has changed in many places.
export function tellOfList(): void {
  channel?.postMessage(note("list", ""));
}

// Messages that are not on the disk.
export function inMemory(): Message[] {
  const lone = [...threads].filter(([id]) => !disk || find(id)?.temporary);
  return lone.flatMap(([, shown]) => [...shown.value.values()]);
}

export function keep(message: Message): void {
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

export function setMessage(thread: Signal<Messages>, id: string, row: Message | undefined): void {
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

export async function storedDraft(conversation: string): Promise<Draft> {
  return (await disk?.draft(conversation)) ?? { conversation, text: "" };
}

export function storeDraft(conversation: string, changes: DraftChanges): Promise<void> {
  return changeDraft(conversation, changes, `draft ${conversation}`);
}

// Changes what a draft has; other fields of it stay.
export function changeDraft(conversation: string, changes: DraftChanges, key = ""): Promise<void> {
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

// Says what attachments belong to, once that exists. Those of a temporary conversation leave the disk.
export async function giveAttachments(ids: readonly string[], conversation: string): Promise<void> {
  const temporary = Boolean(find(conversation)?.temporary);
  for (const id of temporary ? ids : []) {
    const row = await attachment(id);
    if (row) held.set(id, row);
  }
  if (temporary) persist((to) => to.removeAttachments(ids), []);
  for (const id of ids) {
    const row = held.get(id);
    if (row) held.set(id, { ...row, conversation });
  }
  persistFor(conversation, (to) => to.giveAttachments(ids, conversation), []);
}

// Those of a conversation that has ended and was never stored.
export function letGoOfAttachments(conversation: string): void {
  for (const [id, row] of held) if (row.conversation === conversation) held.delete(id);
}

export function removeAttachments(ids: readonly string[]): void {
  for (const id of ids) held.delete(id);
  persist((to) => to.removeAttachments(ids), []);
}
