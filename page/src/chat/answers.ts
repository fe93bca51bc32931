// Answers under way: one for each conversation, whichever is on view, and what became of those that failed.
import { type Signal, signal } from "@preact/signals";
import { ApiError, isAbort, streamChat, type Turn } from "../api/api.ts";
import { words } from "../markdown/words.ts";
import type { Message, State } from "../store/rows.ts";
import { t } from "../texts.ts";
import { fitting } from "./fitting.ts";
import * as library from "./library.ts";
import { hold } from "./locks.ts";
import { duration, model, models, refresh } from "./models.ts";
import { say } from "./said.ts";
import { type Come, Incoming, separate } from "./thinking.ts";

// How often a growing answer is drawn, and stored, in milliseconds.
const DRAW_EVERY = 60;
const SAVE_EVERY = 1_000;
// Waiting by itself, a page asks again this often at most.
const MOST_RETRIES = 30;

// What the model thought before it answered, and for how many milliseconds; `open` while it thinks.
export type Thoughts = Pick<Come, "reasoning" | "thought" | "open">;

export interface Run {
  message: Message;
  text: Signal<string>;
  thoughts: Signal<Thoughts>;
  note: Signal<string>;
  controller: AbortController;
  // Why the engine says that the answer ends.
  reason: string;
}

export interface Problem {
  error: ApiError;
  // When it is asked again without a hand; 0 for never.
  until: number;
  retry: () => void;
}

// By conversation.
export const runs = signal<ReadonlyMap<string, Run>>(new Map());
export const problems = signal<ReadonlyMap<string, Problem>>(new Map());
// Conversations with an answer that nobody has seen.
export const unseen = signal<ReadonlySet<string>>(new Set());

function changed<Value>(from: ReadonlyMap<string, Value>, key: string, value: Value | null) {
  const made = new Map(from);
  if (value === null) made.delete(key);
  else made.set(key, value);
  return made;
}

export function seen(conversation: string): void {
  if (unseen.value.has(conversation)) {
    unseen.value = new Set([...unseen.value].filter((one) => one !== conversation));
  }
}

// --- Beginning -------------------------------------------------------------------------------------------

let last = 0;

// Messages stand in the order of their times: no two have the same.
export function now(): number {
  last = Math.max(Date.now(), last + 1);
  return last;
}

interface Asking {
  conversation: string;
  // The question that is answered.
  parent: string;
  // How often it was asked before without an answer.
  attempts?: number;
  // An answer that is to be continued.
  continued?: Message;
}

export async function answer(asking: Asking): Promise<void> {
  const { conversation, parent, attempts = 0, continued } = asking;
  if (runs.value.has(conversation)) return;
  endWaiting(conversation);
  const before = library.find(conversation)?.leaf ?? "";
  const message: Message = continued ?? {
    id: crypto.randomUUID(),
    conversation,
    parent,
    role: "assistant",
    content: "",
    created: now(),
    state: "writing",
    model: askedModel(conversation),
  };
  const run = begun(message);
  library.own(message.id);
  const release = await hold(message.id);
  if (continued) library.write(continued, { state: "writing" }, continued.state);
  else show(message);
  if (library.current.value === conversation) say(t("writing"));
  const error = await stream(run, continued);
  runs.value = changed(runs.value, conversation, null);
  finish(run, error, before);
  release();
  library.disown(message.id);
  conclude(asking, run, error, attempts);
}

function askedModel(conversation: string): string {
  const wanted = library.find(conversation)?.model ?? "";
  return models.value.some((one) => one.id === wanted) ? wanted : (model.value?.id ?? wanted);
}

function begun(message: Message): Run {
  const run: Run = {
    message,
    text: signal(message.content),
    thoughts: signal(thoughts(message)),
    note: signal(""),
    controller: new AbortController(),
    reason: "",
  };
  runs.value = changed(runs.value, message.conversation, run);
  return run;
}

export function thoughts(message: Message, otherwise = ""): Thoughts {
  const { text, milliseconds } = message.reasoning ?? { text: otherwise, milliseconds: 0 };
  return { reasoning: text, thought: milliseconds, open: false };
}

// An answer is shown at once and stored from its first piece on: one that never came leaves nothing behind.
function show(message: Message): void {
  library.append(message);
  library.look(message.conversation, message.id);
}

// --- Streaming -------------------------------------------------------------------------------------------

function turns(run: Run, continued: Message | undefined): Turn[] {
  const shown = library.visible(run.message.conversation);
  const at = shown.findIndex((one) => one.id === run.message.id);
  const before = shown.slice(0, at < 0 ? shown.length : at);
  const asked: Turn[] = before.map(asTurn).filter((one) => one.content);
  if (!continued?.content) return asked;
  return [
    ...asked,
    { role: "assistant", content: continued.content },
    { role: "user", content: t("continue_prompt") },
  ];
}

// What the model thought is not sent back to it.
function asTurn({ role, content }: Message): Turn {
  return { role, content: role === "assistant" ? separate(content, true).text : content };
}

async function stream(run: Run, continued: Message | undefined): Promise<unknown> {
  const { message } = run;
  const context = models.value.find((one) => one.id === message.model)?.context_length;
  const { messages, cut } = fitting(turns(run, continued), context);
  const note = cut ? t("cut") : "";
  run.note.value = note;
  const growing = new Growing(run, Boolean(continued), note);
  try {
    run.reason = await streamChat({
      model: message.model,
      messages,
      signal: run.controller.signal,
      onText: (piece) => growing.add(piece),
      onReasoning: (piece) => growing.think(piece),
      onNote: (said) => {
        run.note.value = queued(said) || run.note.value;
      },
    });
    return null;
  } catch (error) {
    return error ?? new ApiError("broken_off");
  } finally {
    growing.end();
  }
}

class Growing {
  readonly #run: Run;
  readonly #note: string;
  readonly #incoming: Incoming;
  #drawing = 0;
  #saved = Date.now();
  #stored: boolean;

  // `note`: what is said when it waits no more.
  constructor(run: Run, stored: boolean, note: string) {
    this.#run = run;
    this.#note = note;
    this.#incoming = new Incoming({ ...thoughts(run.message), content: run.message.content });
    this.#stored = stored;
    growths.set(run, this);
  }

  add(piece: string): void {
    this.#incoming.add(piece);
    this.#grown();
  }

  think(piece: string): void {
    this.#incoming.think(piece);
    this.#grown();
  }

  #grown(): void {
    this.#run.note.value = this.#note;
    this.#drawing ||= window.setTimeout(() => this.#draw(), DRAW_EVERY);
    if (!this.#stored) {
      this.#stored = true;
      library.store({ ...this.#run.message, ...stored(this.#come()) });
    } else if (Date.now() - this.#saved > SAVE_EVERY) {
      this.save();
    }
  }

  save(): void {
    this.#saved = Date.now();
    if (this.#stored) library.save(this.#run.message, stored(this.#come()));
  }

  end(): void {
    growths.delete(this.#run);
    this.#draw(true);
  }

  #come(ended = false): Come {
    return this.#incoming.come(performance.now(), ended);
  }

  #draw(ended = false): void {
    clearTimeout(this.#drawing);
    this.#drawing = 0;
    const { content, ...thoughts } = this.#come(ended);
    this.#run.thoughts.value = thoughts;
    this.#run.text.value = content;
  }
}

// What of it goes into a message's row.
function stored({ content, reasoning, thought }: Come): Partial<Message> {
  return { content, ...(reasoning ? { reasoning: { text: reasoning, milliseconds: thought } } : {}) };
}

const growths = new Map<Run, Growing>();

// The page may be about to end.
export function saveAll(): void {
  for (const growing of growths.values()) growing.save();
}

// What the gateway says while one waits, `queued position=3 expected=42s`, in the reader's words.
export function queued(note: string): string {
  const found = /^queued position=(\d+)(?: expected=(\d+)s)?$/.exec(note);
  if (!found) return "";
  const [, position = "", seconds = ""] = found;
  return seconds ? t("queued_for", { position, time: duration(Number(seconds)) }) : t("queued", { position });
}

// --- Ending ----------------------------------------------------------------------------------------------

function ending(run: Run, error: unknown): State {
  if (!error) return run.reason === "length" ? "length" : "done";
  return isAbort(error) ? "stopped" : "broken";
}

function finish(run: Run, error: unknown, before: string): void {
  const { message } = run;
  const come = { ...run.thoughts.value, content: run.text.value };
  if (come.content || come.reasoning) {
    library.write(message, { ...stored(come), state: ending(run, error) }, "writing");
    library.change(message.conversation, { updated: Date.now() });
  } else {
    library.drop(message);
    library.look(message.conversation, before);
  }
}

function conclude(asking: Asking, run: Run, error: unknown, attempts: number): void {
  const { conversation } = asking;
  const here = library.current.value === conversation;
  if (!here) unseen.value = new Set([...unseen.value, conversation]);
  if (!error) {
    // Once it is drawn: what is read out is the text as it stands there.
    if (here) setTimeout(() => say(`${t("done")} ${plain(run.message.id)}`));
    else say(t("done_elsewhere", { title: library.find(conversation)?.title ?? "" }));
    library.askToKeep(true);
  } else if (isAbort(error)) {
    if (here) say(t("stopped"));
  } else {
    fail(asking, run, error, attempts);
  }
}

function plain(message: string): string {
  const body = document.querySelector(`[data-message="${CSS.escape(message)}"] .body`);
  return body ? words(body) : "";
}

function fail(asking: Asking, run: Run, failed: unknown, attempts: number): void {
  const error = failed instanceof ApiError ? failed : new ApiError("broken_off", { message: String(failed) });
  const waits = error.retryAfter !== null;
  // An answer of which a part came stays, and what is asked again stands beside it.
  const continued = asking.continued && library.find(asking.conversation) ? { ...run.message } : undefined;
  const again: Asking = { ...asking, attempts: waits ? attempts + 1 : 0 };
  const come = { ...run.thoughts.value, content: run.text.value };
  if (continued) again.continued = { ...continued, ...stored(come), state: "broken" };
  const retry = () => answer(again);
  const seconds = waits && attempts < MOST_RETRIES ? Math.max(1, error.retryAfter ?? 1) : 0;
  const until = seconds ? Date.now() + seconds * 1000 : 0;
  problems.value = changed(problems.value, asking.conversation, { error, until, retry });
  if (until) timers.set(asking.conversation, window.setTimeout(retry, until - Date.now()));
  if (waits) refresh();
}

const timers = new Map<string, number>();

// Ends the waiting for another try, and takes the problem away.
export function endWaiting(conversation: string): void {
  clearTimeout(timers.get(conversation));
  timers.delete(conversation);
  problems.value = changed(problems.value, conversation, null);
}

// The problem stays; it is not tried again without a hand.
export function noRetry(conversation: string): void {
  clearTimeout(timers.get(conversation));
  timers.delete(conversation);
  const problem = problems.value.get(conversation);
  if (problem) problems.value = changed(problems.value, conversation, { ...problem, until: 0 });
}

export function stop(conversation: string): void {
  runs.value.get(conversation)?.controller.abort();
}
