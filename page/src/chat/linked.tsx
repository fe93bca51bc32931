// A link that carries settings: the reader sees them before they apply.
import { signal } from "@preact/signals";
import { NUMBER_FIELDS } from "../settings/fields.ts";
import { isLink, type Linked, readLink } from "../settings/links.ts";
import { LINK_KEY } from "../site.ts";
import { t } from "../texts.ts";
import { focusInput } from "./focus.ts";
import { current } from "./library.ts";
import { Modal } from "./modal.tsx";
import { choose, named } from "./models.ts";
import { say } from "./said.ts";
import { setOwn } from "./tuning.ts";

// null: no link. "bad": one that cannot be used.
const carried = signal<Linked | "bad" | null>(null);

// Takes the settings out of the address, so that a reload or a copied address does not carry them on.
export function readAddress(): void {
  const hash = isLink(location.hash) ? location.hash : kept();
  if (!isLink(hash)) return;
  carried.value = readLink(hash) ?? "bad";
  history.replaceState(null, "", location.pathname);
  forget();
}

// What theme.ts has kept over a sign-in.
function kept(): string {
  try {
    return sessionStorage.getItem(LINK_KEY) ?? "";
  } catch {
    return "";
  }
}

function forget(): void {
  try {
    sessionStorage.removeItem(LINK_KEY);
  } catch {
    // Nothing was kept either.
  }
}

function end(): void {
  carried.value = null;
  focusInput();
}

export function LinkDialogue() {
  const found = carried.value;
  if (!found) return null;
  if (found === "bad") {
    return (
      <Modal id="linked" title={t("linked_title")} onClose={end}>
        <p>{t("linked_bad")}</p>
        <button type="button" class="button" onClick={end}>
          {t("close")}
        </button>
      </Modal>
    );
  }
  return <Offer {...found} />;
}

function Offer({ settings, model }: Linked) {
  const offered = named(model) !== undefined;
  const use = () => {
    setOwn(current.value, settings);
    if (model && offered) choose(model);
    say(t("linked_used"));
    end();
  };
  return (
    <Modal id="linked" title={t("linked_title")} onClose={end}>
      <p>{t("linked_text")}</p>
      <dl class="facts">
        {model ? (
          <>
            <dt>{t("model")}</dt>
            <dd>{offered ? model : t("linked_no_model", { model })}</dd>
          </>
        ) : null}
        {settings.system ? (
          <>
            <dt>{t("set_system")}</dt>
            <dd dir="auto" class="long">
              {settings.system}
            </dd>
          </>
        ) : null}
        {NUMBER_FIELDS.filter((field) => settings[field] !== undefined).map((field) => (
          <>
            <dt>{t(`set_${field}`)}</dt>
            <dd>{settings[field]}</dd>
          </>
        ))}
      </dl>
      <div class="row">
        <button type="button" class="button primary" id="linked-use" onClick={use}>
          {t("linked_use")}
        </button>
        <button type="button" class="button" onClick={end}>
          {t("linked_leave")}
        </button>
      </div>
    </Modal>
  );
}
