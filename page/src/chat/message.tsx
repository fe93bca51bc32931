// One turn of a conversation: what was asked, or what was answered.
import { useMemo } from "preact/hooks";
import { Chips } from "../attachments/chips.tsx";
import { CopyButton } from "../markdown/code.tsx";
import { Markdown } from "../markdown/markdown.tsx";
import { Plain } from "../markdown/plain.tsx";
import type { Message } from "../store/rows.ts";
import { type TextKey, t } from "../texts.ts";
import { again, goOn, removeMessage, show } from "./actions.ts";
import { type Run, runOf, thoughts } from "./answers.ts";
import { edit } from "./drafts.ts";
import { focusInput } from "./focus.ts";
import { IconButton } from "./icons.tsx";
import { MessageMenu } from "./message-menu.tsx";
import { Reasoning } from "./reasoning.tsx";
import { separate } from "./thinking.ts";
import { UsageNote } from "./usage.tsx";
import { WaitNote } from "./wait.tsx";

const NOTES: Partial<Record<Message["state"], TextKey>> = {
  stopped: "stopped_note",
  broken: "broken_off",
  cut: "cut_off",
  length: "length_note",
  writing: "written_elsewhere",
};

interface Props {
  message: Message;
  // What stands in its place on other branches, itself too.
  others: readonly Message[];
}

export function MessageView({ message, others }: Props) {
  const run = runOf(message);
  const busy = Boolean(run);
  // Of an answer that was stored before thoughts were kept apart, or by another product.
  const told = useMemo(() => separate(message.content, true), [message.content]);
  const content = message.role === "user" ? message.content : told.text;
  const thought = run ? run.thoughts.value : thoughts(message, told.reasoning);
  return (
    <article
      class={`message ${message.role}${busy ? " busy" : ""}`}
      aria-busy={busy}
      data-message={message.id}
    >
      <h2 class="hidden">{t(message.role === "user" ? "you" : "assistant")}</h2>
      {message.role === "user" ? null : <Reasoning {...thought} />}
      <div class="body" dir="auto">
        {message.role === "user" ? <Plain text={content} /> : <Answer text={content} run={run} />}
      </div>
      <Chips attached={message.attachments} />
      <NoteOf message={message} run={run} />
      {busy ? null : <Tools message={message} others={others} content={content} />}
    </article>
  );
}

function Answer({ text, run }: { text: string; run: Run | undefined }) {
  return <Markdown text={run ? run.text.value : text} />;
}

function NoteOf({ message, run }: { message: Message; run: Run | undefined }) {
  const key = NOTES[message.state];
  const text = run ? run.note.value : key && t(key);
  return (
    <>
      {text ? <p class="note quiet">{text}</p> : null}
      {run?.wait.value ? <WaitNote run={run} /> : null}
      {!run && message.usage ? <UsageNote message={message} usage={message.usage} /> : null}
    </>
  );
}

function Tools({ message, others, content }: Props & { content: string }) {
  const answered = message.role === "assistant";
  const unfinished = answered && ["stopped", "broken", "cut", "length"].includes(message.state);
  const change = () => {
    edit(message);
    focusInput();
  };
  const remove = () => {
    removeMessage(message);
    focusInput();
  };
  if (message.state === "writing") return <div class="tools" />;
  return (
    <div class="tools">
      <CopyButton text={content} label={t("copy")} />
      {answered ? <IconButton icon="again" label={t("again")} onClick={() => again(message)} /> : null}
      {answered ? null : <IconButton icon="edit" label={t("edit")} onClick={change} />}
      <IconButton icon="trash" label={t("delete_message")} onClick={remove} />
      <MessageMenu message={message} />
      {others.length > 1 ? <Branches message={message} others={others} /> : null}
      {unfinished ? (
        <button type="button" class="button small" onClick={() => goOn(message)}>
          {t("continue")}
        </button>
      ) : null}
    </div>
  );
}

function Branches({ message, others }: Props) {
  const at = others.findIndex((one) => one.id === message.id);
  const [before, after] = [others[at - 1], others[at + 1]];
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for a form, and this is none
    <span class="branches" role="group" aria-label={t("branches")}>
      <IconButton
        icon="left"
        label={t("branch_before")}
        disabled={!before}
        onClick={() => before && show(before)}
      />
      <span>{t("branch_of", { n: at + 1, all: others.length })}</span>
      <IconButton
        icon="right"
        label={t("branch_after")}
        disabled={!after}
        onClick={() => after && show(after)}
      />
    </span>
  );
}
