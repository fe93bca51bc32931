// What a reader does with conversations and messages.

import * as files from "../attachments/pending.ts";
import { hindrance } from "../attachments/tray.tsx";
import { at } from "../site.ts";
import type { Removed } from "../store/disk.ts";
import type { Conversation, Message } from "../store/rows.ts";
import { titleFrom } from "../store/title.ts";
import { newest, path } from "../store/tree.ts";
import { t } from "../texts.ts";
import { answer, endWaiting, now, problemsOf, runs, seen, stop } from "./answers.ts";
import { ask } from "./asking.tsx";
import { mayAsk } from "./consent.tsx";
import * as drafts from "./drafts.ts";
import * as library from "./library.ts";
import { model } from "./models.ts";
import * as removing from "./removing.ts";
import { say } from "./said.ts";
import { second, undecided } from "./sides.ts";
import { begins } from "./tuning.ts";
import { offer, undo } from "./undo.ts";

const home = at("/");

// --- Addresses -------------------------------------------------------------------------------------------

export function address(conversation: string): string {
  return conversation && !library.find(conversation)?.temporary ? `${home}c/${conversation}` : home;
}

export function addressed(): string {
  const path = location.pathname;
  return path.startsWith(`${home}c/`) ? path.slice(home.length + 2) : "";
}

// Shows a conversation, and says in the address which. "" for a new one. A temporary one that is on view ends with that,
// if the reader agrees.
export async function open(conversation: string, push = true): Promise<void> {
  const left = library.current.value;
  if (left !== conversation && !(await mayLeave(left))) {
    // Back to where the history was left.
    if (!push) history.pushState(null, "", address(left));
    return;
  }
  await view(conversation, push);
  if (left !== conversation) endTemporary(left);
}

async function view(conversation: string, push: boolean): Promise<void> {
  drafts.storeNow();
  if (conversation && !library.find(conversation)) {
    say(t("not_here"));
    missing(conversation);
    return;
  }
  if (conversation) await library.thread(conversation);
  if (push && addressed() !== conversation) history.pushState(null, "", address(conversation));
  library.current.value = conversation;
  library.lost.value = "";
  document.title = `${titleOf(conversation)}${document.title.slice(document.title.lastIndexOf(" – "))}`;
  seen(conversation);
  library.letGo((id) => id === conversation || runs.value.has(id) || problemsOf(id).length > 0);
  await drafts.show(conversation);
}

// Something was asked in it, and it is not stored.
function hasUnstored(conversation: string): boolean {
  return Boolean(library.find(conversation)?.temporary && library.shown(conversation)?.value.size);
}

async function mayLeave(conversation: string): Promise<boolean> {
  if (!hasUnstored(conversation)) return true;
  const question = { title: t("temporary_leave"), text: t("temporary_leave_text"), yes: t("temporary_end") };
  return (await ask({ ...question, danger: true })) !== null;
}

function endTemporary(conversation: string): void {
  if (!library.find(conversation)?.temporary) return;
  stop(conversation);
  endWaiting(conversation);
  drafts.forget(conversation);
  library.letGoOfAttachments(conversation);
  removing.remove([conversation]);
}

// Begins a conversation that is not stored.
export async function startTemporary(): Promise<void> {
  const row: Conversation = { ...fresh(t("temporary_title")), settings: begins(), temporary: true };
  library.begin(row);
  await open(row.id);
  // The reader may have stayed with the one before.
  if (library.current.value !== row.id) removing.remove([row.id]);
}

// The page is about to end, and a temporary conversation with it.
export function warnBeforeEnd(event: BeforeUnloadEvent): void {
  if (hasUnstored(library.current.value)) event.preventDefault();
}

function titleOf(conversation: string): string {
  return library.find(conversation)?.title || t("new_chat");
}

function missing(conversation: string): void {
  library.lost.value = conversation;
  history.replaceState(null, "", address(""));
  library.current.value = "";
  drafts.show("");
}

export function openAddressed(): Promise<void> {
  return open(addressed(), false);
}

// --- Asking ----------------------------------------------------------------------------------------------

export async function send(text: string): Promise<void> {
  const taking = removing.takingFrom(library.current.value);
  // What is asked next follows what a deletion leaves.
  if (taking) return sendAfter(taking, library.current.value);
  const asked = text.trim();
  const edited = drafts.editing.value;
  const attachments = files.ready();
  const hindered = hindrance();
  if (hindered) say(hindered);
  if (hindered || !(asked || attachments.length) || !model.value || runs.value.has(library.current.value)) {
    return;
  }
  const from = library.current.value;
  if (from && undecided(from)?.answers.length && !edited) {
    say(t("choice_first"));
    document.querySelector<HTMLElement>(".choice .keep")?.focus();
    return;
  }
  const conversation = from || begin(asked || (attachments[0]?.name ?? ""));
  const shown = library.visible(conversation);
  const replaced = edited && library.shown(conversation)?.value.get(edited.id);
  const parent = replaced ? replaced.parent : (shown.at(-1)?.id ?? "");
  const message: Message = {
    id: crypto.randomUUID(),
    conversation,
    parent,
    role: "user",
    content: asked,
    created: now(),
    state: "done",
    model: "",
    ...(attachments.length ? { attachments } : {}),
  };
  library.append(message);
  library.store(message);
  library.change(conversation, { leaf: message.id, model: model.value.id });
  files.sent(conversation);
  if (edited) drafts.endEdit();
  else drafts.sent(from);
  if (!from) {
    history.replaceState(null, "", address(conversation));
    library.current.value = conversation;
  }
  await askModels(conversation, message.id);
}

async function sendAfter(taking: Promise<unknown>, conversation: string): Promise<void> {
  await taking;
  if (library.current.value === conversation) await send(drafts.draft.value);
}

// Asks one model, or two side by side.
async function askModels(conversation: string, parent: string): Promise<void> {
  const first = model.value?.id ?? "";
  const other = second.value;
  if (!other || other === first) return answer({ conversation, parent });
  // One after the other: a question to the reader that is open ends when another is asked.
  const agreed: string[] = [];
  for (const one of [first, other]) if (await mayAsk(one)) agreed.push(one);
  await Promise.all(agreed.map((beside) => answer({ conversation, parent, beside })));
}

// Goes on with one of several answers to a question; the others stay beside it.
export function keep(message: Message): void {
  const { conversation } = message;
  for (const [place] of problemsOf(conversation)) endWaiting(place);
  library.change(conversation, { leaf: message.id, model: message.model });
  say(t("choice_kept", { model: message.model }));
}

function begin(text: string): string {
  const row = { ...fresh(titleFrom(text)), settings: begins() };
  library.begin(row);
  return row.id;
}

function fresh(title: string): Conversation {
  const at = now();
  return {
    id: crypto.randomUUID(),
    title,
    titled: "automatic",
    created: at,
    updated: at,
    model: model.value?.id ?? "",
    leaf: "",
    pinned: false,
    folder: "",
    settings: {},
  };
}

// Answers a question once more; what there was stays beside it.
export function again(message: Message): void {
  if (removing.takingFrom(message.conversation)) return;
  const question = message.role === "user" ? message.id : message.parent;
  if (model.value) library.change(message.conversation, { model: model.value.id });
  answer({ conversation: message.conversation, parent: question });
}

export function goOn(message: Message): void {
  if (removing.takingFrom(message.conversation)) return;
  answer({ conversation: message.conversation, parent: message.parent, continued: message });
}

export function show(message: Message): void {
  const messages = library.shown(message.conversation)?.value;
  if (!messages || runs.value.has(message.conversation)) return;
  endWaiting(message.conversation);
  library.change(message.conversation, { leaf: newest(messages, message.id) });
}

// --- Deleting --------------------------------------------------------------------------------------------

export async function removeConversations(wanted: readonly string[], text: string): Promise<void> {
  const ids = wanted.filter((id) => !removing.takingFrom(id));
  if (!ids.length) return;
  for (const id of ids) {
    stop(id);
    endWaiting(id);
  }
  const open_ = library.current.value;
  // What was typed a moment ago goes and comes back with its conversation.
  drafts.storeNow();
  let left: Promise<void> | undefined;
  const removed = await removing.remove(ids, () => {
    if (ids.includes(library.current.value)) left = view("", true);
  });
  await left;
  offer(text, () => putBack(removed, ids.includes(open_) ? open_ : ""));
}

async function putBack(removed: Removed, open_: string): Promise<void> {
  await removing.restore(removed);
  if (open_) await view(open_, true);
}

export async function removeMessage(message: Message): Promise<void> {
  if (!mayTakeFrom(message.conversation)) return;
  const pruned = await removing.removeFrom(message);
  const text = t("deleted_messages", { n: pruned.removed.messages.length });
  offer(text, () => removing.graft(pruned));
}

// Deletes one message and leaves what follows it.
export async function removeOnlyMessage(message: Message): Promise<void> {
  if (!mayTakeFrom(message.conversation)) return;
  const pruned = await removing.removeOne(message);
  offer(t("deleted_message"), () => removing.graft(pruned));
}

function mayTakeFrom(conversation: string): boolean {
  if (runs.value.has(conversation) || removing.takingFrom(conversation)) return false;
  endWaiting(conversation);
  return true;
}

// Begins a new conversation with a message and what comes before it.
export async function fork(message: Message): Promise<void> {
  const from = library.find(message.conversation);
  const messages = library.shown(message.conversation)?.value;
  if (!from || !messages) return;
  const row = { ...from, ...fresh(t("forked_title", { title: from.title })), settings: from.settings };
  row.model = from.model;
  row.folder = from.folder;
  await library.copy(row, path(messages, message.id));
  await open(row.id);
  say(t("forked"));
}

// --- Other tabs ------------------------------------------------------------------------------------------

// What another tab deleted is no longer on view here.
library.onNote(({ kind, conversation }) => {
  if (kind === "erased") {
    for (const id of runs.value.keys()) stop(id);
    drafts.forgetAll();
    undo.value = null;
    view("", true);
  }
  if (kind !== "conversation" || library.find(conversation)) return;
  stop(conversation);
  endWaiting(conversation);
  if (library.current.value === conversation) view("", true);
});
