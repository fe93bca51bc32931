// What of a conversation is sent, and whether the model can read all of it: pure.
import type { Turn } from "../api/api.ts";

// An answer needs room: this much of the model's context is left to it, in tokens.
const ANSWER_TOKENS = 512;
// A token is about three characters of most languages; of Chinese, Japanese and Korean a character is one or more.
const CHARACTERS_A_TOKEN = 3;
const DENSE = 0x2e80;
// What the engine adds around each turn.
const TURN_TOKENS = 4;
// What a picture or a sound has, of common size.
const MEDIA_TOKENS = 1_500;

export interface Fit {
  messages: Turn[];
  // How many of the oldest turns are left out.
  left: number;
}

// About how many tokens a text has: no engine's own count, and rather too many than too few.
export function tokensIn(text: string): number {
  let dense = 0;
  for (let at = 0; at < text.length; at += 1) if (text.charCodeAt(at) >= DENSE) dense += 1;
  return dense + Math.ceil((text.length - dense) / CHARACTERS_A_TOKEN);
}

function cost({ content, media }: Turn): number {
  return tokensIn(content) + TURN_TOKENS + (media?.length ?? 0) * MEDIA_TOKENS;
}

export function tokensOf(turns: readonly Turn[]): number {
  return turns.reduce((sum, turn) => sum + cost(turn), 0);
}

// How many tokens of a conversation a model can read and still answer; Infinity where it does not say.
export function room(contextLength: number | undefined): number {
  if (!contextLength) return Number.POSITIVE_INFINITY;
  return Math.floor(Math.max(contextLength - ANSWER_TOKENS, contextLength / 2));
}

// The newest turns that fit into `most` tokens, after what the model is told first. The question itself is sent in any
// case: what is too long for an engine, the engine refuses.
export function newest(turns: readonly Turn[], most: number): Fit {
  const first = turns[0]?.role === "system" ? turns.slice(0, 1) : [];
  const rest = turns.slice(first.length);
  let from = rest.length - 1;
  let used = tokensOf(first) + tokensOf(rest.slice(-1));
  for (let before = rest[from - 1]; before; before = rest[from - 1]) {
    const more = cost(before);
    if (used + more > most) break;
    from -= 1;
    used += more;
  }
  // A conversation starts with a question.
  while (from < rest.length - 1 && rest[from]?.role !== "user") from += 1;
  const left = Math.max(from, 0);
  return { messages: [...first, ...rest.slice(left)], left };
}

// What a conversation has for a model to read, to be told where it is too much: in tokens.
export interface Overflow {
  all: number;
  room: number;
  system: number;
  question: number;
  // How many of the oldest turns have to stay out; 0 where only the question is left.
  left: number;
}

export function measure(turns: readonly Turn[], contextLength: number | undefined): Overflow {
  const most = room(contextLength);
  const all = tokensOf(turns);
  const system = turns[0]?.role === "system" ? tokensIn(turns[0].content) : 0;
  const question = tokensIn(turns.at(-1)?.content ?? "");
  // An engine may count more than is estimated here: what is left out then is what makes a difference.
  return { all, room: most, system, question, left: newest(turns, Math.min(most, all - 1)).left };
}
