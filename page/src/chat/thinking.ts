// What a model thinks before it answers, where it stands within the answer's text: `<think>…</think>`. A pure function of
// the text as far as it has come.
import { closes, fenceOf } from "../markdown/split.ts";

const OPEN = "<think>";
const CLOSE = "</think>";
const OPENING = /^[ \t]*<think>/;

export interface Separated {
  // The answer without what was thought.
  text: string;
  reasoning: string;
  // What comes next is thought.
  open: boolean;
}

// `ended`: no more comes, so what looks like the beginning of a tag is text. A tag counts at the beginning of a line outside
// of code, or behind another thought. An end without a beginning, on a line of its own, ends what was thought from the start
// on: there are models whose prompt has the beginning.
export function separate(raw: string, ended: boolean): Separated {
  if (!raw.includes("<")) return { text: raw, reasoning: "", open: false };
  const from = unopened(raw);
  const thoughts = from ? [raw.slice(0, raw.indexOf(CLOSE)).trim()] : [];
  const answer: string[] = [];
  let at = from;
  while (at < raw.length) {
    const begin = opening(raw, at, ended);
    if (begin < 0) break;
    answer.push(raw.slice(at, begin));
    if (!raw.startsWith(OPEN, begin)) return made(answer, thoughts, false);
    const end = raw.indexOf(CLOSE, begin);
    const inner = begin + OPEN.length;
    if (end < 0) return made(answer, [...thoughts, within(raw.slice(inner), ended)], true);
    thoughts.push(raw.slice(inner, end).trim());
    at = end + CLOSE.length;
  }
  answer.push(raw.slice(at));
  return made(answer, thoughts, false);
}

function made(answer: readonly string[], thoughts: readonly string[], open: boolean): Separated {
  const text = answer.join("");
  const reasoning = thoughts.filter(Boolean).join("\n\n");
  // What was thought leaves no blank lines behind.
  return { text: thoughts.length ? text.trimStart() : text, reasoning, open };
}

// Behind the end that has no beginning; 0 where there is none.
function unopened(raw: string): number {
  const end = raw.indexOf(CLOSE);
  if (end < 0 || /[^\s]/.test(raw.slice(raw.lastIndexOf("\n", end) + 1, end))) return 0;
  const before = raw.slice(0, end);
  const after = end + CLOSE.length;
  if (
    before.includes(OPEN) ||
    before.includes("```") ||
    !/^[ \t]*(?:\n|$)/.test(raw.slice(after, after + 80))
  )
    return 0;
  return after;
}

// Where the next thought begins, or what may be the beginning of its tag; -1 for none.
function opening(raw: string, from: number, ended: boolean): number {
  let fence = "";
  for (let at = from; at < raw.length; ) {
    const next = raw.indexOf("\n", at);
    const line = raw.slice(at, next < 0 ? raw.length : next);
    const opened = fence ? "" : (fenceOf(line)?.marks ?? "");
    if (fence) {
      if (closes(line, fence)) fence = "";
    } else if (opened) {
      fence = opened;
    } else if (OPENING.test(line)) {
      return raw.indexOf(OPEN, at);
    } else if (!ended && next < 0) {
      const begun = line.trimStart();
      if (begun && OPEN.startsWith(begun)) return raw.length - begun.length;
    }
    if (next < 0) return -1;
    at = next + 1;
  }
  return -1;
}

// A thought that has not ended, without what may be the beginning of its end.
function within(thought: string, ended: boolean): string {
  if (ended) return thought.trim();
  const last = thought.lastIndexOf("<");
  const cut = last >= 0 && CLOSE.startsWith(thought.slice(last)) ? thought.slice(0, last) : thought;
  return cut.trimStart();
}

// An answer as far as it has come, apart from what was thought for it.
export interface Come {
  content: string;
  reasoning: string;
  // For so many milliseconds.
  thought: number;
  // The model thinks at this time.
  open: boolean;
}

// Puts together what comes of an answer: text, in which thoughts may stand, and thoughts that come apart from it. It goes on
// with what there was before.
export class Incoming {
  readonly #before: Come;
  #text = "";
  #apart = "";
  // When the first thought came and when the answer began, in milliseconds of `now`.
  #from = 0;
  #until = 0;

  constructor(before: Pick<Come, "content"> & Partial<Come>) {
    this.#before = { reasoning: "", thought: 0, open: false, ...before };
  }

  add(text: string): void {
    this.#text += text;
  }

  think(text: string): void {
    this.#apart += text;
  }

  // `ended`: no more comes.
  come(now: number, ended: boolean): Come {
    const { text, reasoning, open } = separate(this.#text, ended);
    const new_ = [this.#apart.trim(), reasoning].filter(Boolean).join("\n\n");
    if (new_ && !this.#from) this.#from = now;
    const thinks = open || Boolean(new_ && !text.trim());
    if (this.#from && !this.#until && (!thinks || ended)) this.#until = now;
    const { content, reasoning: before, thought } = this.#before;
    return {
      content: content + text,
      reasoning: [before, new_].filter(Boolean).join("\n\n"),
      thought: thought + (this.#from ? (this.#until || now) - this.#from : 0),
      open: thinks && !ended,
    };
  }
}
