// What is typed and not sent belongs to its conversation: a new message, and a message that is written anew. Both are
// stored as one types, and come back with it.
import { effect, signal } from "@preact/signals";
import * as files from "../attachments/pending.ts";
import { type Draft, type Edit, type Message, NEW } from "../store/rows.ts";
import { composed } from "./composing.ts";
import { keep, take } from "./leaving.ts";
import * as library from "./library.ts";

const STORE_AFTER = 300;

interface Typed {
  // Of a new message.
  text: string;
  // What a message becomes; null where none is written anew. The field has this then, and `text` waits.
  edit: Edit | null;
  // Whether that was begun, written or ended here: what another tab edits ends when that tab says so.
  mine: boolean;
  // Another tab has stored its own edit in the place of this one.
  alone?: true;
}

// What the field has.
export const draft = signal("");
// The message that is written anew; null when none is.
export const editing = signal<{ id: string } | null>(null);

// Until the first conversation is on view, what is typed has no home.
let homeless = true;
let settled = () => {};
const home = new Promise<void>((done) => {
  settled = done;
});
const typedHere = new Map<string, Typed>();
let timer = 0;

function key(conversation: string): string {
  return conversation || NEW;
}

function here(): Typed {
  return typedHere.get(key(library.current.value)) ?? { text: "", edit: null, mine: false };
}

function asTyped({ text, edit }: Draft): Typed {
  return { text, edit: edit ?? null, mine: false };
}

// What was typed first stands below what was stored.
function below(stored: string, text: string): string {
  return stored && text ? `${stored}\n${text}` : stored || text;
}

// --- Showing ---------------------------------------------------------------------------------------------

// Shows the draft of the conversation that is on view now.
export async function show(conversation: string): Promise<void> {
  const where = key(conversation);
  const known = typedHere.get(where);
  if (known && !homeless) return reveal(conversation, known);
  editing.value = null;
  files.show(where);
  if (homeless) return settle(conversation);
  draft.value = "";
  const found = await library.storedDraft(where);
  // Meanwhile somebody may have typed, or gone on.
  if (library.current.value === conversation && !draft.value && !typedHere.has(where)) {
    reveal(conversation, asTyped(found));
  }
}

async function settle(conversation: string): Promise<void> {
  const where = key(conversation);
  const stored = await library.storedDraft(where);
  await composed();
  // Somebody has gone on to another conversation: what was typed settles there.
  if (library.current.value !== conversation) return;
  const first = draft.value;
  const kept = take(where);
  findHome();
  const mine = Boolean(first || kept);
  const text = kept?.text ?? stored.text;
  const edit = kept?.edit === undefined ? (stored.edit ?? null) : kept.edit;
  // Which files an edit has, the database knows.
  if (edit && stored.edit?.message === edit.message) Object.assign(edit, { ...stored.edit, text: edit.text });
  const typed: Typed = edit
    ? { text, edit: { ...edit, text: below(edit.text, first) }, mine }
    : { text: below(text, first), edit: null, mine };
  if (mine) change(conversation, typed);
  reveal(conversation, typed);
}

function findHome(): void {
  homeless = false;
  settled();
}

function reveal(conversation: string, typed: Typed): void {
  const { text, edit } = typed;
  const message = edit ? library.shown(conversation)?.value.get(edit.message) : undefined;
  if (edit && !message) {
    // Somebody has deleted it: what it was to become is a draft like others.
    const plain: Typed = { text: below(text, edit.text), edit: null, mine: true };
    files.endEdit(edit.message);
    change(conversation, plain);
    reveal(conversation, plain);
    return;
  }
  if (edit) typedHere.set(key(conversation), typed);
  editing.value = message ? { id: message.id } : null;
  draft.value = edit ? edit.text : text;
  if (message) files.edit(message, edit?.attachments);
  else files.show(key(conversation));
}

// --- Typing ----------------------------------------------------------------------------------------------

export function typed(text: string): void {
  draft.value = text;
  if (homeless) return;
  const before = here();
  const { edit } = before;
  const now = edit ? { text: before.text, edit: { ...edit, text }, mine: true } : { ...before, text };
  change(library.current.value, now);
}

function change(conversation: string, now: Typed): void {
  typedHere.set(key(conversation), now);
  clearTimeout(timer);
  timer = window.setTimeout(() => storeNow(conversation), STORE_AFTER);
}

export function storeNow(conversation = library.current.value): void {
  clearTimeout(timer);
  const where = key(conversation);
  const now = typedHere.get(where);
  if (!now) return;
  const { text, edit, mine } = now;
  const what = edit && { message: edit.message, text: edit.text };
  library.storeDraft(where, mine ? { text, edit: what } : { text });
}

// The page may be about to end.
export function keepTyped(): void {
  const conversation = library.current.value;
  storeNow();
  if (library.find(conversation)?.temporary) return;
  const now = typedHere.get(key(conversation));
  keep(key(conversation), now && { text: now.text, ...(now.mine ? { edit: now.edit } : {}) });
}

// Empties the draft of a conversation whose text was sent.
export function sent(conversation: string): void {
  if (homeless) {
    // What was stored of an earlier draft was not on view, and stays.
    findHome();
    draft.value = "";
    return;
  }
  const before = typedHere.get(key(conversation)) ?? { edit: null, mine: false };
  typedHere.set(key(conversation), { ...before, text: "" });
  if (library.current.value === conversation) draft.value = "";
  storeNow(conversation);
}

// --- Writing a message anew ------------------------------------------------------------------------------

export async function edit(message: Message): Promise<void> {
  const { id, conversation, content } = message;
  if (homeless) await home;
  if (library.current.value !== conversation || editing.value?.id === id) return;
  // While another message is written anew, the field has that one, not the draft.
  const text = editing.value ? here().text : draft.value;
  if (editing.value) files.endEdit(editing.value.id);
  reveal(conversation, { text, edit: { message: id, text: content }, mine: true });
  storeNow();
}

export function endEdit(): void {
  if (editing.value) files.endEdit(editing.value.id);
  const now: Typed = { text: here().text, edit: null, mine: true };
  typedHere.set(key(library.current.value), now);
  reveal(library.current.value, now);
  storeNow();
}

// It may be deleted meanwhile, here or in another tab.
effect(() => {
  const id = editing.value?.id;
  const messages = library.shown(library.current.value)?.value;
  if (id && messages && !messages.has(id)) deleted(id);
});

async function deleted(id: string): Promise<void> {
  await composed();
  if (editing.value?.id === id) reveal(library.current.value, here());
}

// --- Forgetting, and other tabs --------------------------------------------------------------------------

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
  const found = asTyped(await library.storedDraft(conversation));
  const now = followed(typedHere.get(conversation), found);
  typedHere.set(conversation, now);
  if (key(library.current.value) === conversation && !homeless) reveal(library.current.value, now);
});

// An edit that ends there ends here too; beside one of another message it stays.
function followed(before: Typed | undefined, found: Typed): Typed {
  if (!before?.mine || !before.edit || found.edit?.message === before.edit.message) return found;
  if (!found.edit && !before.alone) return found;
  return { ...before, text: found.text, alone: true };
}
