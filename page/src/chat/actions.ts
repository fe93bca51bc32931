// What a reader does with conversations and messages.
import type { Removed } from "../store/disk.ts";
import type { Conversation, Message } from "../store/rows.ts";
import { newest } from "../store/tree.ts";
import { t } from "../texts.ts";
import { answer, endWaiting, now, problems, runs, seen, stop } from "./answers.ts";
import * as drafts from "./drafts.ts";
import * as library from "./library.ts";
import { model } from "./models.ts";
import { say } from "./said.ts";
import { offer } from "./undo.ts";

const TITLE_LENGTH = 60;
const home = document.getElementById("app")?.dataset.home ?? "/";

// --- Addresses -------------------------------------------------------------------------------------------

export function address(conversation: string): string {
  return conversation ? `${home}c/${conversation}` : home;
}

function addressed(): string {
  const path = location.pathname;
  return path.startsWith(`${home}c/`) ? path.slice(home.length + 2) : "";
}

// Shows a conversation, and says in the address which. "" for a new one.
export async function open(conversation: string, push = true): Promise<void> {
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
  library.letGo((id) => id === conversation || runs.value.has(id) || problems.value.has(id));
  await drafts.show(conversation);
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
  const asked = text.trim();
  const edited = drafts.editing.value;
  if (!asked || !model.value || runs.value.has(library.current.value)) return;
  const from = library.current.value;
  const conversation = from || begin(asked);
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
  };
  library.append(message);
  library.store(message);
  library.change(conversation, { leaf: message.id, model: model.value.id });
  if (edited) drafts.endEdit();
  else drafts.sent(from);
  if (!from) {
    history.replaceState(null, "", address(conversation));
    library.current.value = conversation;
  }
  await answer({ conversation, parent: message.id });
}

function begin(text: string): string {
  const title = text.replace(/\s+/g, " ").slice(0, TITLE_LENGTH);
  const at = now();
  const row: Conversation = {
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
  library.begin(row);
  return row.id;
}

// Answers a question once more; what there was stays beside it.
export function again(message: Message): void {
  const question = message.role === "user" ? message.id : message.parent;
  if (model.value) library.change(message.conversation, { model: model.value.id });
  answer({ conversation: message.conversation, parent: question });
}

export function goOn(message: Message): void {
  answer({ conversation: message.conversation, parent: message.parent, continued: message });
}

export function show(message: Message): void {
  const messages = library.shown(message.conversation)?.value;
  if (!messages || runs.value.has(message.conversation)) return;
  endWaiting(message.conversation);
  library.change(message.conversation, { leaf: newest(messages, message.id) });
}

// --- Deleting --------------------------------------------------------------------------------------------

export async function removeConversations(ids: readonly string[], text: string): Promise<void> {
  for (const id of ids) {
    stop(id);
    endWaiting(id);
  }
  const open_ = library.current.value;
  if (ids.includes(open_)) await open("");
  const removed = await library.remove(ids);
  say(text);
  offer(text, () => putBack(removed, ids.includes(open_) ? open_ : ""));
}

function putBack(removed: Removed, view: string): void {
  library.restore(removed);
  say(t("put_back"));
  if (view) open(view);
}

export function removeMessage(message: Message): void {
  if (runs.value.has(message.conversation)) return;
  endWaiting(message.conversation);
  const before = library.find(message.conversation)?.leaf ?? "";
  const removed = library.removeFrom(message);
  const text = t("deleted_messages", { n: removed.messages.length });
  say(text);
  offer(text, () => {
    library.restore(removed);
    library.change(message.conversation, { leaf: before });
    say(t("put_back"));
  });
}

// --- Other tabs ------------------------------------------------------------------------------------------

// What another tab deleted is no longer on view here.
library.onNote(({ kind, conversation }) => {
  if (kind !== "conversation" || library.find(conversation)) return;
  stop(conversation);
  endWaiting(conversation);
  if (library.current.value === conversation) open("");
});
