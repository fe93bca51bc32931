// Titles that a model finds, where the reader wants that: it costs tokens. The page's own are the first words.
import { effect } from "@preact/signals";
import { streamChat } from "../api/api.ts";
import { cleaned } from "../store/title.ts";
import { t } from "../texts.ts";
import { type Run, runs } from "./answers.ts";
import { change, find, visible } from "./library.ts";
import { settings } from "./shelves.ts";

// "model" where the reader wants them.
export const TITLES = "titles";
// So much of question and answer is shown to the model, in characters, and so much of what it says is read.
const SHOWN = 600;
const READ = 200;

let before: ReadonlyMap<string, readonly Run[]> = new Map();

// After the first answer of a conversation.
export function followAnswers(): void {
  effect(() => {
    const now = runs.value;
    for (const id of before.keys()) if (!now.has(id)) setTimeout(() => answered(id));
    before = now;
  });
}

function answered(id: string): void {
  const row = find(id);
  const [question, answer, more] = visible(id);
  const first = question && answer && !more && answer.state === "done" && answer.content;
  if (!first || settings.value.get(TITLES) !== "model") return;
  if (row?.titled !== "automatic" || row.temporary) return;
  entitle(id, answer.model, `${question.content.slice(0, SHOWN)}\n\n${answer.content.slice(0, SHOWN)}`);
}

async function entitle(id: string, model: string, said: string): Promise<void> {
  const title = find(id)?.title;
  const enough = new AbortController();
  let given = "";
  try {
    await streamChat({
      model,
      messages: [{ role: "user", content: `${t("titles_prompt")}\n\n${said}` }],
      settings: {},
      signal: enough.signal,
      onText: (piece) => {
        given += piece;
        if (given.length > READ) enough.abort();
      },
      onReasoning: () => {},
      onNote: () => {},
    });
  } catch {
    // It has the first words for a title.
  }
  const found = cleaned(given);
  const row = find(id);
  // Meanwhile the reader may have chosen one.
  if (found && row?.titled === "automatic" && row.title === title) change(id, { title: found });
}
