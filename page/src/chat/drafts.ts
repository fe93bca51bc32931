// What is typed and not sent belongs to its conversation. It is stored as one types, and comes back with it.
import { signal } from "@preact/signals";
import * as files from "../attachments/pending.ts";
import { type Message, NEW } from "../store/rows.ts";
import { composed } from "./composing.ts";
import { keep, take } from "./leaving.ts";
import * as library from "./library.ts";

const STORE_AFTER = 300;

export const draft = signal("");
// The message that is written anew, and what was typed before that; null when none is.
export const editing = signal<{ id: string; before: string } | null>(null);

// Until the first conversation is on view, what is typed has no home.
let homeless = true;
const typedHere = new Map<string, string>();
let timer = 0;

function key(conversation: string): string {
  return conversation || NEW;
}

// Shows the draft of the conversation that is on view now.
export async function show(conversation: string): Promise<void> {
  editing.value = null;
  files.show(key(conversation));
  if (homeless) return settle(conversation);
  const known = typedHere.get(key(conversation));
  draft.value = known ?? "";
  if (known !== undefined) return;
  const found = await library.storedDraft(key(conversation));
  // Meanwhile somebody may have typed, or gone on.
  if (library.current.value === conversation && !draft.value && !typedHere.has(key(conversation))) {
    draft.value = found;
  }
}

// What was typed first stands below the draft that was stored.
async function settle(conversation: string): Promise<void> {
  const stored = await library.storedDraft(key(conversation));
  await composed();
  // Somebody has gone on to another conversation: what was typed settles there.
  if (library.current.value !== conversation) return;
  const first = draft.value;
  const kept = take(key(conversation));
  const found = kept ?? stored;
  homeless = false;
  if (!first && kept !== undefined) typed(kept);
  else if (first) typed(found ? `${found}\n${first}` : first);
  else draft.value = found;
}

export function typed(text: string): void {
  draft.value = text;
  // What a message that is edited becomes is no draft.
  if (editing.value || homeless) return;
  typedHere.set(key(library.current.value), text);
  clearTimeout(timer);
  const conversation = library.current.value;
  timer = window.setTimeout(() => storeNow(conversation), STORE_AFTER);
}

export function storeNow(conversation = library.current.value): void {
  clearTimeout(timer);
  const text = typedHere.get(key(conversation));
  if (text !== undefined) library.storeDraft(key(conversation), text);
}

// The page may be about to end.
export function keepTyped(): void {
  const conversation = library.current.value;
  storeNow();
  if (!library.find(conversation)?.temporary) keep(key(conversation), typedHere.get(key(conversation)));
}

// Empties the draft of a conversation whose text was sent.
export function sent(conversation: string): void {
  if (homeless) {
    // What was stored of an earlier draft was not on view, and stays.
    homeless = false;
    draft.value = "";
    return;
  }
  typedHere.set(key(conversation), "");
  if (library.current.value === conversation) draft.value = "";
  storeNow(conversation);
}

export function edit(message: Message): void {
  if (editing.value?.id === message.id) return;
  // While another message is written anew, the field has that one, not the draft.
  editing.value = { id: message.id, before: editing.value?.before ?? draft.value };
  draft.value = message.content;
  files.edit(message);
}

export function endEdit(): void {
  draft.value = editing.value?.before ?? "";
  editing.value = null;
  files.show(key(library.current.value));
}

// What was typed in a conversation that has ended.
export function forget(conversation: string): void {
  typedHere.delete(conversation);
}

// Everything was deleted.
export function forgetAll(): void {
  clearTimeout(timer);
  typedHere.clear();
  editing.value = null;
  draft.value = "";
}

// Another tab has typed: this one follows, unless somebody types here.
library.onNote(async ({ kind, conversation }) => {
  if (kind !== "draft" || document.hasFocus()) return;
  const found = await library.storedDraft(conversation);
  typedHere.set(conversation, found);
  if (key(library.current.value) === conversation && !editing.value) draft.value = found;
});
