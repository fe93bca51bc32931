// Before a model outside the site is asked for the first time, the reader says whether it may be.
import { signal } from "@preact/signals";
import type { Model } from "../api/api.ts";
import { t } from "../texts.ts";
import { Modal } from "./modal.tsx";
import { named } from "./models.ts";
import { set, settings } from "./shelves.ts";

const CONSENTS = "consents";

interface Question {
  model: Model;
  answer: (may: boolean) => void;
}

const question = signal<Question | null>(null);

// What the reader agrees to: whoever runs it, and where. With another place it is asked anew.
function subject(model: Model): string {
  return `${model.provider || model.id} ${model.region ?? ""}`;
}

function agreed(): string[] {
  const found = settings.value.get(CONSENTS);
  return Array.isArray(found) ? found.filter((one) => typeof one === "string") : [];
}

// Resolves with whether a model may be asked.
export function mayAsk(name: string): Promise<boolean> {
  const model = named(name);
  if (!model?.external || agreed().includes(subject(model))) return Promise.resolve(true);
  question.value?.answer(false);
  return new Promise((resolve) => {
    question.value = {
      model,
      answer: (may) => {
        question.value = null;
        if (may) set(CONSENTS, [...agreed(), subject(model)]);
        resolve(may);
      },
    };
  });
}

export function Consent() {
  const asked = question.value;
  if (!asked) return null;
  const { model, answer } = asked;
  const provider = model.provider || model.id;
  const region = model.region || t("external_nowhere");
  return (
    <Modal id="consent" title={t("consent_title")} onClose={() => answer(false)}>
      <p>{t("consent_text", { model: model.id, provider, region })}</p>
      <p class="quiet">{t("consent_once")}</p>
      <div class="row">
        <button type="button" class="button primary" id="consent-yes" onClick={() => answer(true)}>
          {t("consent_yes")}
        </button>
        <button type="button" class="button" onClick={() => answer(false)}>
          {t("consent_no")}
        </button>
      </div>
    </Modal>
  );
}
