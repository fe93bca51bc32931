// What of a conversation is sent: its newest turns, as far as the model can read.
import type { Turn } from "../api/api.ts";

// An answer needs room: this much of the model's context is left to it, in tokens; a token is about 3 characters.
const ANSWER_TOKENS = 512;
const CHARACTERS_A_TOKEN = 3;

export function fitting(turns: readonly Turn[], contextLength?: number): { messages: Turn[]; cut: boolean } {
  const room = contextLength
    ? Math.max(contextLength - ANSWER_TOKENS, contextLength / 2) * CHARACTERS_A_TOKEN
    : Number.POSITIVE_INFINITY;
  let from = turns.length - 1;
  let used = turns[from]?.content.length ?? 0;
  for (
    let before = turns[from - 1];
    before && used + before.content.length <= room;
    before = turns[from - 1]
  ) {
    from -= 1;
    used += before.content.length;
  }
  // A conversation starts with a question.
  while (from < turns.length - 1 && turns[from]?.role !== "user") from += 1;
  return {
    messages: turns.slice(Math.max(from, 0)).map(({ role, content }) => ({ role, content })),
    cut: from > 0,
  };
}
