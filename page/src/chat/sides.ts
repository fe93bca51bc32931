// Which models answer a question side by side, and between which answers the reader has to choose.
import { signal } from "@preact/signals";
import type { Message } from "../store/rows.ts";
import { children } from "../store/tree.ts";
import { placeOf, problemsOf } from "./answers.ts";
import * as library from "./library.ts";

// The second model; "" for none.
export const second = signal("");

export interface Open {
  question: Message;
  answers: readonly Message[];
  // The models whose answers have not come, as problems have them.
  failed: readonly string[];
}

// The last question of a conversation, where it has several answers and none is chosen; null where there is none.
export function undecided(conversation: string): Open | null {
  const messages = library.shown(conversation)?.value;
  const question = library.visible(conversation).at(-1);
  if (!messages || question?.role !== "user") return null;
  const answers = children(messages, question.id);
  const known = new Set(answers.map((one) => placeOf(conversation, one.model)));
  const places = problemsOf(conversation).map(([place]) => place);
  const failed = places
    .filter((place) => place !== conversation && !known.has(place))
    .map((place) => place.slice(conversation.length + 1));
  return answers.length + failed.length > 1 ? { question, answers, failed } : null;
}
