// The menu of saved prompts behind a slash: pure.

import { folded } from "../store/finding.ts";
import type { Prompt } from "../store/rows.ts";

const MOST_SHOWN = 50;

export interface Slash {
  // Where the slash stands.
  at: number;
  // What was typed behind it.
  query: string;
}

// A slash at the beginning of a line, with what was typed behind it up to the caret; null where there is none.
export function slashAt(text: string, caret: number): Slash | null {
  const begin = text.lastIndexOf("\n", caret - 1) + 1;
  // Longer lines are text that happens to begin so.
  if (text[begin] !== "/" || caret <= begin || caret - begin > 60) return null;
  return { at: begin, query: text.slice(begin + 1, caret) };
}

// Prompts whose name has each word of the query; those that begin with it come first.
export function offered(prompts: readonly Prompt[], query: string): Prompt[] {
  const words = folded(query).split(/\s+/).filter(Boolean);
  const found = prompts.filter((one) => {
    const name = folded(one.name);
    return words.every((word) => name.includes(word));
  });
  const first = folded(query.trim());
  const begins = (one: Prompt) => folded(one.name).startsWith(first);
  return [...found.filter(begins), ...found.filter((one) => !begins(one))].slice(0, MOST_SHOWN);
}

// The text with a prompt in the place of the slash, and where the caret stands then.
export function inserted(text: string, caret: number, slash: Slash, prompt: string) {
  const before = text.slice(0, slash.at) + prompt;
  return { text: before + text.slice(caret), caret: before.length };
}
