// A second model for the same question: both answer at once, side by side, and the reader keeps one answer.
import { signal } from "@preact/signals";
import type { Message } from "../store/rows.ts";
import { t } from "../texts.ts";
import { keep } from "./actions.ts";
import { placeOf, problems } from "./answers.ts";
import { focusInput } from "./focus.ts";
import { IconButton } from "./icons.tsx";
import { MessageView } from "./message.tsx";
import { model, models, named } from "./models.ts";
import { ModelBox } from "./picker.tsx";
import { ProblemCard } from "./problem.tsx";
import { second } from "./sides.ts";

const listed = signal(false);

// Switches the second model on, with the first other one that could answer, or off.
function toggle(): void {
  const others = models.value.filter((one) => one.id !== model.value?.id);
  const found = others.find((one) => one.status === "ready") ?? others[0];
  listed.value = !listed.value;
  second.value = listed.value ? (found?.id ?? "") : "";
  if (!listed.value) focusInput();
}

export function SecondButton() {
  if (models.value.length < 2) return null;
  return <IconButton icon="columns" label={t("second_on")} pressed={listed.value} onClick={toggle} />;
}

export function SecondModel() {
  if (!listed.value) return null;
  const chosen = named(second.value);
  return (
    <div id="second-row" class="row">
      <span class="quiet">{t("second_label")}</span>
      <ModelBox
        id="second"
        label={t("second")}
        chosen={chosen}
        onChoose={(name) => (second.value = name)}
        up
      />
      <IconButton icon="close" label={t("second_off")} onClick={toggle} />
    </div>
  );
}

interface Props {
  question: Message;
  answers: readonly Message[];
  // The models whose answers have not come.
  failed: readonly string[];
}

// The answers to one question beside each other.
export function Choice({ question, answers, failed }: Props) {
  return (
    <section class="choice" aria-label={t("choice")}>
      <p class="note quiet">{t("choice_note")}</p>
      <div class="sides">
        {answers.map((one) => (
          <Side key={one.id} answer={one} />
        ))}
        {failed.map((name) => (
          <FailedSide key={name} question={question} name={name} />
        ))}
      </div>
    </section>
  );
}

function Side({ answer }: { answer: Message }) {
  const choose = () => {
    keep(answer);
    focusInput();
  };
  const place = placeOf(answer.conversation, answer.model);
  const problem = problems.value.get(place);
  return (
    <div class="side-answer" data-model={answer.model}>
      <p class="side-model">{answer.model}</p>
      <MessageView message={answer} others={[answer]} />
      {problem ? <ProblemCard problem={problem} conversation={answer.conversation} place={place} /> : null}
      {answer.state === "writing" ? null : (
        <button type="button" class="button small keep" onClick={choose}>
          {t("choice_keep", { model: answer.model })}
        </button>
      )}
    </div>
  );
}

function FailedSide({ question, name }: { question: Message; name: string }) {
  const place = placeOf(question.conversation, name);
  const problem = problems.value.get(place);
  return (
    <div class="side-answer" data-model={name}>
      <p class="side-model">{name}</p>
      {problem ? <ProblemCard problem={problem} conversation={question.conversation} place={place} /> : null}
    </div>
  );
}
