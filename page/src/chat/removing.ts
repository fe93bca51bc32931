// Takes conversations and messages away, with what puts them back.
import { type Disk, nothing, type Removed } from "../store/disk.ts";
import { asConversation, asMessage, type Conversation, type Message } from "../store/rows.ts";
import { below, newest } from "../store/tree.ts";
import {
  change,
  conversations,
  find,
  forget,
  isStored,
  keep,
  note,
  persist,
  persistFor,
  putAll,
  setMessage,
  shown,
  thread,
} from "./library.ts";

// Takes conversations away, and returns what puts them back.
export async function remove(ids: readonly string[]): Promise<Removed> {
  const removed = nothing();
  for (const one of await Promise.all(ids.map((id) => thread(id)))) {
    for (const message of one.value.values()) removed.messages.push(message);
  }
  const gone = new Set(ids);
  removed.conversations = conversations.value.filter((row) => gone.has(row.id));
  forget(ids);
  const temporary = temporaryOf(removed.conversations);
  const stored = ids.filter((id) => !temporary.has(id));
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

function temporaryOf(rows: readonly Conversation[]): ReadonlySet<string> {
  return new Set(rows.filter((row) => row.temporary).map((row) => row.id));
}

export function restore(removed: Removed): void {
  putAll(removed.conversations.map((row) => (row.temporary ? row : asConversation(row))));
  const temporary = temporaryOf(conversations.value);
  for (const row of removed.messages) {
    const message = asMessage(row);
    const thread = shown(message.conversation);
    if (thread) setMessage(thread, message.id, message);
    else if (!isStored() || temporary.has(message.conversation)) keep(message);
  }
  const lasting = (id: string) => !temporary.has(id);
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

// Takes a message away with all that follows it, and returns what puts it back.
export function removeFrom(message: Message): Removed {
  const into = shown(message.conversation);
  const ids = into ? below(into.value, message.id) : [];
  const messages = ids.flatMap((id) => into?.value.get(id) ?? []);
  const gone = new Set(ids);
  if (into) into.value = new Map([...into.value].filter(([id]) => !gone.has(id)));
  const removed = { ...nothing(), messages };
  removeMessages(message.conversation, ids, removed);
  const after = into ? newest(into.value, message.parent) : "";
  change(message.conversation, { leaf: after });
  return removed;
}

function removeMessages(conversation: string, ids: readonly string[], removed: Removed): void {
  const notes = ids.map((id) => note("message", conversation, id));
  const remove = async (to: Disk) => {
    // As they were stored, as above.
    const rows = new Map((await to.removeMessages(ids)).map((row) => [row.id, row]));
    removed.messages = removed.messages.map((row) => rows.get(row.id) ?? row);
  };
  persistFor(conversation, remove, notes);
}

// Takes one message away: what followed it follows the one before it. Returns what puts it back.
export function removeOne(message: Message): { removed: Removed; followers: string[] } {
  const { id, conversation, parent } = message;
  const into = shown(conversation);
  const followers = [...(into?.value.values() ?? [])].filter((row) => row.parent === id).map((row) => row.id);
  replant(conversation, followers, id, parent);
  if (into) setMessage(into, id, undefined);
  const removed = { ...nothing(), messages: [message] };
  removeMessages(conversation, [id], removed);
  if (find(conversation)?.leaf === id) {
    change(conversation, { leaf: into ? newest(into.value, parent) : "" });
  }
  return { removed, followers };
}

// Has messages that follow `from` follow another one.
export function replant(conversation: string, ids: readonly string[], from: string, parent: string): void {
  const into = shown(conversation);
  for (const id of ids) {
    const row = into?.value.get(id);
    if (into && row) setMessage(into, id, { ...row, parent });
  }
  const notes = ids.map((id) => note("message", conversation, id));
  persistFor(conversation, (to) => to.replant(ids, from, parent), notes);
}
