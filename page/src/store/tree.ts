// A conversation's messages as a tree: pure functions of what is stored.
import type { Message } from "./rows.ts";

export type Messages = ReadonlyMap<string, Message>;

function inOrder(one: Message, other: Message): number {
  return one.created - other.created || (one.id < other.id ? -1 : 1);
}

// Of each state of a conversation once: every message that is shown asks for those beside it.
const known = new WeakMap<Messages, Map<string, Message[]>>();

// Messages are never changed in place: what changes is another map.
function byParent(messages: Messages): Map<string, Message[]> {
  const found = known.get(messages) ?? ordered(messages);
  known.set(messages, found);
  return found;
}

function ordered(messages: Messages): Map<string, Message[]> {
  const found = new Map<string, Message[]>();
  for (const message of messages.values()) {
    // What a message followed may have been deleted in another tab: it then begins the conversation.
    const parent = messages.has(message.parent) ? message.parent : "";
    const beside = found.get(parent);
    if (beside) beside.push(message);
    else found.set(parent, [message]);
  }
  for (const children of found.values()) children.sort(inOrder);
  return found;
}

// From the first message to `leaf`; to the newest where there is no such message.
export function path(messages: Messages, leaf: string): Message[] {
  const end = messages.get(leaf) ?? messages.get(newest(messages, ""));
  const made: Message[] = [];
  const seen = new Set<string>();
  for (let at = end; at && !seen.has(at.id); at = messages.get(at.parent)) {
    seen.add(at.id);
    made.push(at);
  }
  return made.reverse();
}

// The end of the newest branch below a message; "" for the whole conversation.
export function newest(messages: Messages, from: string): string {
  const children = byParent(messages);
  const seen = new Set<string>();
  let at = from;
  for (;;) {
    const next = children.get(at)?.at(-1);
    if (!next || seen.has(next.id)) return at;
    seen.add(next.id);
    at = next.id;
  }
}

// What stands beside a message, itself too: what was written or answered in its place, oldest first.
export function siblings(messages: Messages, message: Message): readonly Message[] {
  const children = byParent(messages);
  return children.get(messages.has(message.parent) ? message.parent : "") ?? [message];
}

// What follows a message directly, oldest first.
export function children(messages: Messages, id: string): readonly Message[] {
  return byParent(messages).get(id) ?? [];
}

// A message and all that follows it, on all branches.
export function below(messages: Messages, id: string): string[] {
  const children = byParent(messages);
  const found = new Set([id]);
  for (const one of found) for (const child of children.get(one) ?? []) found.add(child.id);
  return [...found];
}
