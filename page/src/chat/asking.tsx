// Questions to the reader, in a dialog of the browser's own: whether something is meant, for a name, for a choice.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { t } from "../texts.ts";

export interface Question {
  title: string;
  text?: string;
  // What is asked for: a text, or one of the choices.
  field?: { label: string; value: string; most: number };
  choices?: { label: string; value: string; options: { value: string; label: string }[] };
  yes: string;
  danger?: boolean;
}

interface Asked extends Question {
  answer: (value: string | null) => void;
}

const asked = signal<Asked | null>(null);

// What the reader gives: the text, the choice, "" for a plain yes; null for no.
export function ask(question: Question): Promise<string | null> {
  asked.value?.answer(null);
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer: (value) => {
        asked.value = null;
        resolve(value);
      },
    };
  });
}

export function AskingHost() {
  const dialog = useRef<HTMLDialogElement>(null);
  const question = asked.value;
  useLayoutEffect(() => {
    if (!question) return;
    dialog.current?.showModal();
    dialog.current?.querySelector<HTMLInputElement>("input")?.select();
  }, [question]);
  if (!question) return null;
  const answer = (value: string | null) => {
    // Closed first, so that the focus goes back to where it was.
    dialog.current?.close();
    question.answer(value);
  };
  return (
    <dialog
      ref={dialog}
      id="asking"
      aria-labelledby="asking-title"
      onCancel={(event) => {
        event.preventDefault();
        answer(null);
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const given = new FormData(event.currentTarget).get("given");
          answer(typeof given === "string" ? given.trim() : "");
        }}
      >
        <h2 id="asking-title">{question.title}</h2>
        {question.text ? <p>{question.text}</p> : null}
        <Given question={question} />
        <p class="row end">
          <button type="button" class="button" onClick={() => answer(null)}>
            {t("cancel")}
          </button>
          <button type="submit" class={`button ${question.danger ? "danger" : "primary"}`}>
            {question.yes}
          </button>
        </p>
      </form>
    </dialog>
  );
}

function Given({ question }: { question: Question }) {
  const { field, choices } = question;
  if (field) {
    return (
      <label class="field">
        {field.label}
        <input name="given" dir="auto" required maxLength={field.most} defaultValue={field.value} />
      </label>
    );
  }
  if (!choices) return null;
  return (
    <label class="field">
      {choices.label}
      <select name="given" defaultValue={choices.value}>
        {choices.options.map((one) => (
          <option key={one.value} value={one.value} selected={one.value === choices.value}>
            {one.label}
          </option>
        ))}
      </select>
    </label>
  );
}
