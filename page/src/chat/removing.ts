// Takes conversations and messages away, with what puts them back. Both are shown once the disk has them: whoever
// reloads the page at that very moment finds what was shown.
import { type Disk, nothing, type Removed } from "../store/disk.ts";
import { asConversation, asMessage, type Conversation, type Message } from "../store/rows.ts";
import { below, type Messages, newest } from "../store/tree.ts";
import {
  conversations,
  find,
  forget,
  isStored,
  keep,
  look,
  type Note,
  note,
  persist,
  persistFor,
  putAll,
  setMessage,
  shown,
  thread,
} from "./library.ts";

// Conversations of which something is being taken away. Until that is stored it is still on view, for a second hand.
const underWay = new Map<string, Promise<unknown>>();

// Resolves when nothing of this conversation is being taken away any more; undefined where nothing is.
export function takingFrom(conversation: string): Promise<unknown> | undefined {
  return underWay.get(conversation);
}

async function noted<Value>(ids: readonly string[], work: Promise<Value>): Promise<Value> {
  for (const id of ids) underWay.set(id, work);
  try {
    return await work;
  } finally {
    for (const id of ids) underWay.delete(id);
  }
}

// --- Conversations ---------------------------------------------------------------------------------------

// Takes conversations away, and returns what puts them back. `leave` is called when they are gone from the disk, and
// before they are from the page.
export function remove(ids: readonly string[], leave: () => void = () => {}): Promise<Removed> {
  return noted(ids, taken(ids, leave));
}

async function taken(ids: readonly string[], leave: () => void): Promise<Removed> {
  const removed = nothing();
  for (const one of await Promise.all(ids.map((id) => thread(id)))) {
    for (const message of one.value.values()) removed.messages.push(message);
  }
  const gone = new Set(ids);
  removed.conversations = conversations.value.filter((row) => gone.has(row.id));
  const temporary = temporaryOf(removed.conversations);
  const stored = ids.filter((id) => !temporary.has(id));
  const take = async (to: Disk) => {
    const found = await to.remove(stored);
    // As they were stored, with what a page of another version has put there.
    removed.drafts = found.drafts;
    removed.attachments = found.attachments;
    const rows = new Map(found.conversations.map((row) => [row.id, row]));
    removed.conversations = removed.conversations.map((row) => ({ ...rows.get(row.id), ...row }));
    const messages = new Map(found.messages.map((row) => [row.id, row]));
    removed.messages = removed.messages.map((row) => messages.get(row.id) ?? row);
  };
  const notes = stored.map((id) => note("conversation", id));
  if (stored.length) await persist(take, notes);
  leave();
  forget(ids);
  return removed;
}

function temporaryOf(rows: readonly Conversation[]): ReadonlySet<string> {
  return new Set(rows.filter((row) => row.temporary).map((row) => row.id));
}

// Puts back conversations, or messages of one that is there.
export function restore(removed: Removed): Promise<void> {
  const notes = removed.conversations.map((row) => note("conversation", row.id));
  return putBack(removed, async () => {}, notes);
}

// `also` is stored with it, and `notes` tell other tabs of that.
async function putBack(removed: Removed, also: (to: Disk) => Promise<unknown>, notes: Note[]): Promise<void> {
  const temporary = temporaryOf([...conversations.value, ...removed.conversations]);
  const lasting = removed.messages.filter((row) => !temporary.has(row.conversation));
  const put = async (to: Disk) => {
    // Where the deletion itself had to wait, it has found the drafts and files only now.
    const { drafts, attachments } = removed;
    const rows = removed.conversations.filter((row) => !row.temporary);
    const messages = removed.messages.filter((row) => !temporary.has(row.conversation));
    await to.takeIn({ conversations: rows, messages, drafts, attachments });
    await also(to);
  };
  const told = lasting.map((row) => note("message", row.conversation, row.id));
  if (removed.conversations.some((row) => !row.temporary) || lasting.length) {
    await persist(put, [...notes, ...told]);
  }
  putAll(removed.conversations.map((row) => (row.temporary ? row : asConversation(row))));
  for (const row of removed.messages) {
    const message = asMessage(row);
    const thread = shown(message.conversation);
    if (thread) setMessage(thread, message.id, message);
    else if (!isStored() || temporary.has(message.conversation)) keep(message);
  }
}

// --- Messages --------------------------------------------------------------------------------------------

// Messages that followed one, and follow another one now.
interface Moved {
  ids: readonly string[];
  from: string;
  to: string;
}

// What a deletion of messages took, and what it changed beside them.
export interface Pruned {
  conversation: string;
  removed: Removed;
  moved: Moved;
  // Where the reader looked.
  leaf: string;
}

// Takes a message away with all that follows it, and returns what puts it back.
export function removeFrom(message: Message): Promise<Pruned> {
  const { id, conversation, parent } = message;
  const all = messagesOf(conversation);
  const ids = below(all, id);
  const leaf = newest(without(all, ids), parent);
  return noted([conversation], prune(message, ids, { ids: [], from: id, to: parent }, leaf));
}

// Takes one message away: what followed it follows the one before it. Returns what puts it back.
export function removeOne(message: Message): Promise<Pruned> {
  const { id, conversation, parent } = message;
  const all = messagesOf(conversation);
  const ids = [...all.values()].filter((row) => row.parent === id).map((row) => row.id);
  const moved: Moved = { ids, from: id, to: parent };
  const before = find(conversation)?.leaf ?? "";
  const leaf = before === id ? newest(without(replanted(all, moved), [id]), parent) : before;
  return noted([conversation], prune(message, [id], moved, leaf));
}

function messagesOf(conversation: string): Messages {
  return shown(conversation)?.value ?? new Map();
}

function without(messages: Messages, ids: readonly string[]): Messages {
  const gone = new Set(ids);
  return new Map([...messages].filter(([id]) => !gone.has(id)));
}

function replanted(messages: Messages, { ids, from, to }: Moved): Messages {
  const changed = new Map(messages);
  for (const id of ids) {
    const row = messages.get(id);
    if (row?.parent === from) changed.set(id, { ...row, parent: to });
  }
  return changed;
}

async function prune(message: Message, ids: readonly string[], moved: Moved, leaf: string): Promise<Pruned> {
  const { conversation } = message;
  const all = messagesOf(conversation);
  const removed = { ...nothing(), messages: ids.flatMap((id) => all.get(id) ?? []) };
  const before = find(conversation)?.leaf ?? "";
  const take = async (to: Disk) => {
    await to.replant(moved.ids, moved.from, moved.to);
    // As they were stored, as above.
    const rows = new Map((await to.removeMessages(ids)).map((row) => [row.id, row]));
    removed.messages = removed.messages.map((row) => rows.get(row.id) ?? row);
    await to.change(conversation, { leaf });
  };
  const gone = ids.map((id) => note("message", conversation, id));
  await persistFor(conversation, take, [...gone, ...notesOf(conversation, moved)]);
  const into = shown(conversation);
  if (into) into.value = without(replanted(into.value, moved), ids);
  look(conversation, leaf);
  return { conversation, removed, moved, leaf: before };
}

// Puts messages back, and what followed them behind them again.
export async function graft({ conversation, removed, moved, leaf }: Pruned): Promise<void> {
  const back: Moved = { ids: moved.ids, from: moved.to, to: moved.from };
  const also = async (to: Disk) => {
    await to.replant(back.ids, back.from, back.to);
    await to.change(conversation, { leaf });
  };
  await putBack(removed, also, notesOf(conversation, moved));
  const into = shown(conversation);
  if (into) into.value = replanted(into.value, back);
  look(conversation, leaf);
}

function notesOf(conversation: string, { ids }: Moved): Note[] {
  return [...ids.map((id) => note("message", conversation, id)), note("conversation", conversation)];
}
