// Answers under way: one for each conversation, whichever is on view, and what became of those that failed.
import { type Signal, signal } from "@preact/signals";
import { ApiError, isAbort, streamChat, type Turn } from "../api/api.ts";
import { sensesOf, turnOf } from "../attachments/sent.ts";
import { words } from "../markdown/words.ts";
import { asked } from "../settings/fields.ts";
import type { Message, State, Usage } from "../store/rows.ts";
import { path } from "../store/tree.ts";
import { t } from "../texts.ts";
import { mayAsk } from "./consent.tsx";
import { measure, newest, type Overflow, room } from "./fitting.ts";
import * as library from "./library.ts";
import { hold } from "./locks.ts";
import { model, named, refresh } from "./models.ts";
import { say } from "./said.ts";
import { type Come, Incoming, separate } from "./thinking.ts";
import { effective } from "./tuning.ts";
import { sent, told, type Wait } from "./waiting.ts";

// How often a growing answer is drawn, and stored, in milliseconds.
const DRAW_EVERY = 100;
const SAVE_EVERY = 1_000;
// Waiting by itself, a page asks again this often at most.
const MOST_RETRIES = 30;
// An answer that never ends is ended here, in characters.
const MOST_ANSWER = 2_000_000;
// After a model has refused a conversation as too long, it is asked with so much less.
const LESS = 0.7;
const TOO_LONG = ["conversation_too_long", "context_length_exceeded"];

// What the model thought before it answered, and for how many milliseconds; `open` while it thinks.
export type Thoughts = Pick<Come, "reasoning" | "thought" | "open">;

export interface Run {
  message: Message;
  // Another model answers the same question.
  beside: boolean;
  text: Signal<string>;
  thoughts: Signal<Thoughts>;
  note: Signal<string>;
  // null from the answer's first piece on.
  wait: Signal<Wait | null>;
  controller: AbortController;
  // Why the engine says that the answer ends, or why it was ended here.
  reason: string;
  usage: Usage | null;
  over: Overflow | null;
  // When its first piece came, in milliseconds since the epoch; 0 before.
  began: number;
}

export interface Problem {
  error: ApiError;
  // When it is asked again without a hand; 0 for never.
  until: number;
  retry: () => void;
  // What makes the conversation too long, where that is the matter.
  over: Overflow | null;
}

// By conversation: one, or one for each of the models that answer one question side by side.
export const runs = signal<ReadonlyMap<string, readonly Run[]>>(new Map());
// By place: the conversation, and the model where several answer side by side.
export const problems = signal<ReadonlyMap<string, Problem>>(new Map());
// Conversations with an answer that nobody has seen.
export const unseen = signal<ReadonlySet<string>>(new Set());

export function runOf(message: Message): Run | undefined {
  return runs.value.get(message.conversation)?.find((run) => run.message.id === message.id);
}

export function placeOf(conversation: string, model = ""): string {
  return model ? `${conversation} ${model}` : conversation;
}

// What went wrong in a conversation, each with its place.
export function problemsOf(conversation: string): [string, Problem][] {
  return [...problems.value].filter(([place]) => belongs(place, conversation));
}

function belongs(place: string, conversation: string): boolean {
  return place === conversation || place.startsWith(`${conversation} `);
}

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
  // One of the models that answer side by side, of which the reader keeps one answer.
  beside?: string;
}

export async function answer(asking: Asking): Promise<void> {
  const { conversation, parent, attempts = 0, continued, beside } = asking;
  if (isBusy(conversation, beside)) return;
  if (!(await mayAsk(beside ?? askedModel(conversation)))) return;
  // Meanwhile it may have been asked once more.
  if (isBusy(conversation, beside)) return;
  endWaiting(placeOf(conversation, beside));
  const before = library.find(conversation)?.leaf ?? "";
  const message: Message = continued ?? {
    id: crypto.randomUUID(),
    conversation,
    parent,
    role: "assistant",
    content: "",
    created: now(),
    state: "writing",
    model: beside ?? askedModel(conversation),
  };
  const run = begun(message, Boolean(beside));
  library.own(message.id);
  const release = await hold(message.id);
  if (continued) library.write(continued, { state: "writing" }, continued.state);
  else show(run);
  const error = await stream(run, continued);
  const others = runs.value.get(conversation)?.filter((one) => one !== run) ?? [];
  runs.value = changed(runs.value, conversation, others.length ? others : null);
  finish(run, error, before);
  release();
  library.disown(message.id);
  conclude(asking, run, error, attempts);
}

function askedModel(conversation: string): string {
  const wanted = library.find(conversation)?.model ?? "";
  return named(wanted) ? wanted : (model.value?.id ?? wanted);
}

function isBusy(conversation: string, beside: string | undefined): boolean {
  const all = runs.value.get(conversation) ?? [];
  return all.some((run) => !beside || !run.beside || run.message.model === beside);
}

function begun(message: Message, beside: boolean): Run {
  const run: Run = {
    message,
    beside,
    text: signal(message.content),
    thoughts: signal(thoughts(message)),
    note: signal(""),
    wait: signal<Wait | null>(sent(Date.now(), readyAt(message.model))),
    controller: new AbortController(),
    reason: "",
    usage: null,
    over: null,
    began: 0,
  };
  const { conversation } = message;
  runs.value = changed(runs.value, conversation, [...(runs.value.get(conversation) ?? []), run]);
  return run;
}

export function thoughts(message: Message, otherwise = ""): Thoughts {
  const { text, milliseconds } = message.reasoning ?? { text: otherwise, milliseconds: 0 };
  return { reasoning: text, thought: milliseconds, open: false };
}

// When a model that is not ready should be, in milliseconds since the epoch; 0 where nobody knows.
function readyAt(name: string): number {
  const found = named(name);
  return found && found.status !== "ready" ? (found.expected_ready ?? 0) * 1000 : 0;
}

// An answer is shown at once and stored from its first piece on: one that never came leaves nothing behind.
function show({ message, beside }: Run): void {
  library.append(message);
  if (!beside) library.look(message.conversation, message.id);
}

// --- Streaming -------------------------------------------------------------------------------------------

async function turns(run: Run, continued: Message | undefined): Promise<Turn[]> {
  const messages = library.shown(run.message.conversation)?.value ?? new Map();
  const senses = sensesOf(named(run.message.model)?.capabilities);
  const said = path(messages, run.message.parent)
    .map(withoutThoughts)
    .filter((one) => one.content || one.attachments);
  const asked = await Promise.all(said.map((one) => turnOf(one, library.attachment, senses)));
  const { system } = effective(run.message.conversation);
  const told: Turn[] = system ? [{ role: "system", content: system }] : [];
  if (!continued?.content) return [...told, ...asked];
  return [
    ...told,
    ...asked,
    { role: "assistant", content: continued.content },
    { role: "user", content: t("continue_prompt") },
  ];
}

// What the model thought is not sent back to it.
function withoutThoughts(message: Message): Message {
  const { role, content } = message;
  return role === "assistant" ? { ...message, content: separate(content, true).text } : message;
}

// Conversations of which only the newest turns are sent, as their reader chose, with the tokens that are sent at most.
const shortened = new Map<string, number>();

function contextOf(name: string): number | undefined {
  return named(name)?.context_length;
}

// Has a conversation that is too long for its model go on with its newest turns.
export function shorten(conversation: string, over: Overflow): void {
  const known = shortened.get(conversation);
  // Where the estimate says that it fits, or that it was short enough, the engine has counted more.
  const most = over.all <= over.room ? over.all * LESS : over.room;
  shortened.set(conversation, Math.floor(known === undefined ? most : Math.min(most, known * LESS)));
}

// Raises ApiError where the model cannot read all of it and the reader has not said what to do.
async function fitted(run: Run, continued: Message | undefined): Promise<Turn[]> {
  const all = await turns(run, continued);
  const context = contextOf(run.message.model);
  run.over = measure(all, context);
  const most = shortened.get(run.message.conversation);
  if (most === undefined) {
    if (run.over.all > run.over.room && run.over.left) throw new ApiError("conversation_too_long");
    return all;
  }
  const { messages, left } = newest(all, Math.min(most, room(context)));
  if (left) run.note.value = t("cut", { n: left });
  return messages;
}

async function stream(run: Run, continued: Message | undefined): Promise<unknown> {
  const { message } = run;
  const growing = new Growing(run, Boolean(continued));
  try {
    const ending = await streamChat({
      model: message.model,
      messages: await fitted(run, continued),
      settings: asked(effective(message.conversation)),
      signal: run.controller.signal,
      onText: (piece) => {
        if (run.wait.value) begins(run);
        growing.add(piece);
      },
      onReasoning: (piece) => {
        if (run.wait.value) begins(run);
        growing.think(piece);
      },
      onNote: (note) => {
        if (run.wait.value) run.wait.value = told(run.wait.value, note, Date.now());
      },
    });
    run.reason = ending.reason;
    if (ending.usage) run.usage = { ...ending.usage, milliseconds: Date.now() - run.began };
    return null;
  } catch (error) {
    return error ?? new ApiError("broken_off");
  } finally {
    run.wait.value = null;
    growing.end();
  }
}

// Its first piece has come: nobody waits any more.
function begins(run: Run): void {
  run.wait.value = null;
  run.began = Date.now();
  if (library.current.value === run.message.conversation) say(t("writing"));
}

class Growing {
  readonly #run: Run;
  readonly #incoming: Incoming;
  #drawing = 0;
  #saved = Date.now();
  #stored: boolean;
  #length = 0;

  constructor(run: Run, stored: boolean) {
    this.#run = run;
    this.#incoming = new Incoming({ ...thoughts(run.message), content: run.message.content });
    this.#stored = stored;
    growths.set(run, this);
  }

  add(piece: string): void {
    this.#incoming.add(piece);
    this.#grown(piece.length);
  }

  think(piece: string): void {
    this.#incoming.think(piece);
    this.#grown(piece.length);
  }

  #grown(by: number): void {
    this.#length += by;
    if (this.#length > MOST_ANSWER && !this.#run.reason) {
      this.#run.reason = "length";
      this.#run.controller.abort();
    }
    this.#drawing ||= window.setTimeout(() => this.#draw(), DRAW_EVERY);
    if (!this.#stored) {
      this.#stored = true;
      library.store({ ...this.#run.message, ...stored(this.#come()) }, !this.#run.beside);
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
    const { value: shown } = this.#run.thoughts;
    // The whole message is drawn again when it changes, and not only its text.
    const thinks = thoughts.reasoning !== shown.reasoning || thoughts.thought !== shown.thought;
    if (thinks || thoughts.open !== shown.open) this.#run.thoughts.value = thoughts;
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

// --- Ending ----------------------------------------------------------------------------------------------

function ending(run: Run, error: unknown): State {
  if (run.reason === "length" && (!error || isAbort(error))) return "length";
  if (!error) return "done";
  return isAbort(error) ? "stopped" : "broken";
}

function finish(run: Run, error: unknown, before: string): void {
  const { message } = run;
  const come = { ...run.thoughts.value, content: run.text.value };
  if (come.content || come.reasoning) {
    const changes: Partial<Message> = { ...stored(come), state: ending(run, error) };
    if (run.usage) changes.usage = run.usage;
    library.write(message, changes, "writing");
    library.change(message.conversation, { updated: Date.now() });
  } else {
    library.drop(message);
    if (!run.beside) library.look(message.conversation, before);
  }
}

function conclude(asking: Asking, run: Run, error: unknown, attempts: number): void {
  const { conversation } = asking;
  const here = library.current.value === conversation;
  if (!here) unseen.value = new Set([...unseen.value, conversation]);
  if (!error && !run.text.value) {
    fail(asking, run, new ApiError("empty_answer"), 0);
  } else if (!error || ending(run, error) === "length") {
    // Once it is drawn: what is read out is the text as it stands there.
    if (run.beside) say(t("done_beside", { model: run.message.model }));
    else if (here) setTimeout(() => say(`${t("done")} ${plain(run.message.id)}`));
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
  const over = TOO_LONG.includes(error.code) ? run.over : null;
  const place = placeOf(asking.conversation, asking.beside);
  problems.value = changed(problems.value, place, { error, until, retry, over });
  if (until) timers.set(place, window.setTimeout(retry, until - Date.now()));
  if (waits) refresh();
}

const timers = new Map<string, number>();

// Ends the waiting for another try, and takes the problem away: at a place, or at all of a conversation's.
export function endWaiting(where: string): void {
  const places = [...timers.keys(), ...problems.value.keys()].filter((place) => belongs(place, where));
  if (!places.length) return;
  for (const place of places) {
    clearTimeout(timers.get(place));
    timers.delete(place);
  }
  problems.value = new Map([...problems.value].filter(([place]) => !places.includes(place)));
}

// The problem stays; it is not tried again without a hand.
export function noRetry(place: string): void {
  clearTimeout(timers.get(place));
  timers.delete(place);
  const problem = problems.value.get(place);
  if (problem) problems.value = changed(problems.value, place, { ...problem, until: 0 });
}

// Stops an answer, or all that are under way in a conversation.
export function stop(conversation: string, message = ""): void {
  for (const run of runs.value.get(conversation) ?? []) {
    if (!message || run.message.id === message) run.controller.abort();
  }
}

// Another tab has deleted the answer or its conversation: it would come to its end unseen, and nothing could be asked
// until then.
library.onNote(({ conversation }) => {
  const messages = library.find(conversation) && library.shown(conversation)?.value;
  for (const run of runs.value.get(conversation) ?? []) {
    if (!messages?.has(run.message.id)) run.controller.abort();
  }
});
