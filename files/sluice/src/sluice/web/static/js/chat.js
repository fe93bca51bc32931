// The chat page: one conversation on view, an answer at a time.
import { streamChat } from "./api.js";
import { element, iconButton } from "./dom.js";
import { Message } from "./message.js";
import { Models, duration } from "./models.js";
import { problemCard } from "./problems.js";
import { Memory, Store } from "./store.js";
import { t } from "./texts.js";

const TITLE_LENGTH = 60;
// An answer needs room: this much of the model's context is left to it, in tokens; a token is about 3 characters.
const ANSWER_TOKENS = 512;
const CHARACTERS_A_TOKEN = 3;
const SAVE_EVERY = 2000;

const page = Object.fromEntries(
  ["log", "empty", "scroller", "composer", "input", "send", "stop", "announcer", "conversations", "new-chat", "delete-all", "menu", "side"].map((id) => [id, document.getElementById(id)]),
);

class Chat {
  #store;
  #models = new Models();
  #conversation = null;
  #running = null;
  #problem = null;
  #following = true;

  async start() {
    this.#store = await Store.open(document.body.dataset.user).catch(() => new Memory());
    this.#listen();
    this.#models.refresh();
    this.#open(null);
    await this.#showList();
    page.input.focus();
  }

  #listen() {
    page.composer.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    page.input.addEventListener("keydown", (event) => {
      // While a word is being composed (Japanese, Chinese, …), Enter belongs to it.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      }
    });
    page.input.addEventListener("input", growInput);
    page.stop.addEventListener("click", () => this.#stop());
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      if (this.#running) this.#stop();
      else toggleSide(false);
    });
    page["new-chat"].addEventListener("click", () => this.#open(null));
    page["delete-all"].addEventListener("click", () => this.#deleteAll());
    page.menu.addEventListener("click", (event) => {
      event.stopPropagation();
      toggleSide();
    });
    document.addEventListener("click", (event) => page.side.contains(event.target) || toggleSide(false));
    // Follows the answer while the reader is at the end; leaves alone who has scrolled up to read.
    page.scroller.addEventListener("scroll", () => {
      this.#following = page.scroller.scrollHeight - page.scroller.scrollTop - page.scroller.clientHeight < 60;
    });
    new ResizeObserver(() => this.#following && this.#toEnd()).observe(page.log);
  }

  // --- Conversations ---------------------------------------------------------------------------------

  #open(conversation) {
    this.#stop();
    this.#clearProblem();
    this.#conversation = conversation;
    page.log.replaceChildren();
    page.empty.hidden = Boolean(conversation);
    toggleSide(false);
    if (conversation) {
      this.#models.choose(conversation.model);
      for (const { role, content, note } of conversation.messages) {
        const message = this.#add(role, content);
        if (note) message.note(t(note));
      }
      if (conversation.messages.at(-1)?.role === "user") this.#offerAgain();
    }
    this.#markCurrent();
    this.#toEnd();
    page.input.focus();
  }

  async #showList() {
    const rows = await this.#store.list();
    page["delete-all"].hidden = !rows.length;
    page.conversations.replaceChildren(...rows.map((row) => this.#listEntry(row)));
    this.#markCurrent();
  }

  #listEntry(row) {
    const open = element("button", { type: "button", className: "conversation", onclick: () => this.#open(row) }, row.title);
    open.dataset.id = row.id;
    const remove = iconButton("trash", t("delete", { title: row.title }), () => this.#delete(row));
    return element("li", {}, open, remove);
  }

  #markCurrent() {
    for (const entry of page.conversations.querySelectorAll(".conversation")) {
      entry.ariaCurrent = entry.dataset.id === this.#conversation?.id ? "true" : null;
    }
  }

  async #delete(row) {
    await this.#store.remove(row.id);
    if (row.id === this.#conversation?.id) this.#open(null);
    await this.#showList();
  }

  async #deleteAll() {
    if (!confirm(t("delete_all_sure"))) return;
    await this.#store.clear();
    this.#open(null);
    await this.#showList();
  }

  async #save(conversation) {
    conversation.updated = Date.now();
    await this.#store.save(conversation);
  }

  // --- Messages --------------------------------------------------------------------------------------

  #add(role, text = "") {
    const message = new Message(role, text);
    if (role === "assistant" && text) message.offer([message.copyTool()]);
    page.log.append(message.node);
    return message;
  }

  async #send() {
    const text = page.input.value.trim();
    if (!text || this.#running || !this.#models.name) return;
    page.input.value = "";
    growInput();
    const started = !this.#conversation;
    this.#conversation ??= { id: crypto.randomUUID(), title: text.slice(0, TITLE_LENGTH), created: Date.now(), messages: [] };
    const conversation = this.#conversation;
    conversation.model = this.#models.name;
    conversation.messages.push({ role: "user", content: text });
    page.empty.hidden = true;
    this.#add("user", text);
    await this.#save(conversation);
    if (started) await this.#showList();
    await this.#answer(conversation);
  }

  async #answer(conversation, attempts = 0) {
    this.#clearProblem();
    const run = { controller: new AbortController(), message: this.#add("assistant"), saved: Date.now() };
    this.#running = run;
    this.#setBusy(true);
    this.#toEnd();
    announce(t("writing"));
    const { messages, cut } = fitting(conversation.messages, this.#models.current?.context_length);
    run.note = cut ? t("cut") : "";
    run.message.note(run.note);
    let failed = null;
    try {
      await streamChat({
        model: conversation.model,
        messages,
        signal: run.controller.signal,
        onText: (piece) => this.#take(conversation, run, piece),
        onNote: (note) => run.message.note(queued(note)),
      });
    } catch (error) {
      failed = error;
    }
    await this.#finish(conversation, run, failed, attempts);
  }

  #take(conversation, run, piece) {
    if (!run.entry) run.message.note(run.note); // it waits no more
    const entry = this.#entry(conversation, run);
    run.message.append(piece);
    entry.content = run.message.text;
    if (Date.now() - run.saved > SAVE_EVERY) {
      run.saved = Date.now();
      this.#save(conversation);
    }
  }

  // The answer's place in the conversation, from its first piece on.
  #entry(conversation, run) {
    if (!run.entry) {
      run.entry = { role: "assistant", content: "" };
      conversation.messages.push(run.entry);
    }
    return run.entry;
  }

  async #finish(conversation, run, failed, attempts) {
    const stopped = failed?.name === "AbortError";
    run.message.busy = false;
    if (this.#running === run) {
      this.#running = null;
      this.#setBusy(false);
    }
    if (run.entry && failed) {
      run.entry.note = stopped ? "stopped_note" : "broken_off";
      run.message.note(t(run.entry.note));
    }
    if (!run.entry) run.message.node.remove();
    await this.#save(conversation);
    await this.#showList();
    if (this.#conversation !== conversation) return;
    this.#conclude(conversation, run, failed, stopped, attempts);
  }

  #conclude(conversation, run, failed, stopped, attempts) {
    const again = () => this.#retry(conversation, run, 0);
    if (run.entry) run.message.offer([run.message.copyTool(), iconButton("again", t("again"), again)]);
    if (!failed) {
      announce(`${t("done")} ${run.message.plain}`);
    } else if (stopped) {
      announce(t("stopped"));
      if (!run.entry) this.#offerAgain();
    } else {
      const waits = failed.retryAfter !== null && failed.retryAfter !== undefined;
      this.#problem = problemCard(normalised(failed), attempts, () => this.#retry(conversation, run, waits ? attempts + 1 : 0));
      page.log.append(this.#problem.node);
      if (waits) this.#models.refresh();
    }
  }

  // Asks again: what there was of the answer, and anything after it, goes.
  #retry(conversation, run, attempts) {
    if (this.#running || this.#conversation !== conversation) return;
    const at = run.entry ? conversation.messages.indexOf(run.entry) : -1;
    if (at >= 0) {
      conversation.messages.splice(at);
      while (run.message.node.nextSibling) run.message.node.nextSibling.remove();
      run.message.node.remove();
    }
    this.#answer(conversation, attempts);
  }

  // A conversation that ends with a question has its answer to come.
  #offerAgain() {
    const conversation = this.#conversation;
    const button = element("button", { type: "button", className: "button small retry", onclick: () => this.#running || this.#answer(conversation) }, t("again"));
    this.#problem = { node: element("div", { className: "offer" }, button), cancel: () => {} };
    page.log.append(this.#problem.node);
  }

  #stop() {
    this.#problem?.cancel();
    this.#running?.controller.abort();
  }

  #clearProblem() {
    this.#problem?.cancel();
    this.#problem?.node.remove();
    this.#problem = null;
  }

  #setBusy(busy) {
    const focused = [page.send, page.stop].includes(document.activeElement);
    page.send.hidden = busy;
    page.stop.hidden = !busy;
    if (this.#running) this.#running.message.busy = busy;
    if (focused) page.input.focus();
  }

  #toEnd() {
    this.#following = true;
    page.scroller.scrollTop = page.scroller.scrollHeight;
  }
}

function normalised(error) {
  if (error.code) return { retryAfter: null, ...error, code: error.code };
  return { code: "broken_off", detail: error.message, requestId: "", retryAfter: null };
}

// What the gateway says while one waits, `queued position=3 expected=42s`, in the reader's words.
function queued(note) {
  const found = /^queued position=(\d+)(?: expected=(\d+)s)?$/.exec(note);
  if (!found) return "";
  const [, position, seconds] = found;
  return seconds ? t("queued_for", { position, time: duration(seconds) }) : t("queued", { position });
}

// Leaves out the oldest turns of a conversation that is longer than the model can read.
function fitting(messages, contextLength) {
  const room = contextLength ? Math.max(contextLength - ANSWER_TOKENS, contextLength / 2) * CHARACTERS_A_TOKEN : Infinity;
  let from = messages.length - 1;
  let used = messages[from].content.length;
  while (from > 0 && used + messages[from - 1].content.length <= room) {
    from -= 1;
    used += messages[from].content.length;
  }
  // A conversation starts with a question.
  while (from < messages.length - 1 && messages[from].role !== "user") from += 1;
  return { messages: messages.slice(from).map(({ role, content }) => ({ role, content })), cut: from > 0 };
}

function growInput() {
  page.input.style.height = "auto";
  page.input.style.height = `${page.input.scrollHeight}px`;
}

function announce(text) {
  page.announcer.textContent = text;
}

function toggleSide(open = !page.side.classList.contains("open")) {
  page.side.classList.toggle("open", open);
  page.menu.ariaExpanded = String(open);
  if (open) page["new-chat"].focus();
}

new Chat().start();
