// The settings: how the model is asked, personas, saved prompts.
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { MOST_SYSTEM, NUMBER_FIELDS, NUMBERS, type NumberField, readNumber } from "../settings/fields.ts";
import { fits, link } from "../settings/links.ts";
import { at } from "../site.ts";
import type { Settings } from "../store/rows.ts";
import { t } from "../texts.ts";
import { IconButton } from "./icons.tsx";
import { current } from "./library.ts";
import { Modal } from "./modal.tsx";
import { choose, model } from "./models.ts";
import { all, apply, nameOf, ofSite, siteState, suggested, wantSite } from "./personas.ts";
import { say } from "./said.ts";
import { OwnPersonas, SaveAsPersona, SavedPrompts } from "./shelf.tsx";
import { personas } from "./shelves.ts";
import { defaults, ownOf, setDefaults, setOwn } from "./tuning.ts";

type Scope = "here" | "all";

const shown = signal(false);
// The field at which the settings open; "" for the first.
const wanted = signal("");
const scope = signal<Scope>("here");

export function openPanel(field = ""): void {
  wanted.value = field;
  scope.value = "here";
  shown.value = true;
}

export function PanelButton() {
  const open = () => openPanel();
  return <IconButton id="settings-open" large icon="settings" label={t("settings")} onClick={open} />;
}

export function Panel() {
  useEffect(() => {
    if (shown.value) wantSite();
    if (shown.value && wanted.value) document.getElementById(`set-${wanted.value}`)?.focus();
  }, [shown.value]);
  if (!shown.value) return null;
  return (
    <Modal id="panel" title={t("settings")} onClose={() => (shown.value = false)}>
      <PersonaChoice />
      <Scopes />
      <Fields key={`${scope.value} ${current.value} ${ownOf(current.value).persona ?? ""}`} />
      <LinkCopy />
      <details>
        <summary>{t("personas_own")}</summary>
        <OwnPersonas />
      </details>
      <details>
        <summary>{t("prompts")}</summary>
        <SavedPrompts />
      </details>
    </Modal>
  );
}

function Scopes() {
  const each: Scope[] = ["here", "all"];
  return (
    <fieldset class="scopes">
      <legend>{t("set_scope")}</legend>
      {each.map((one) => (
        <label key={one}>
          <input
            type="radio"
            name="scope"
            value={one}
            checked={scope.value === one}
            onChange={() => (scope.value = one)}
          />
          {t(`set_scope_${one}`)}
        </label>
      ))}
    </fieldset>
  );
}

// --- Fields ----------------------------------------------------------------------------------------------

function read(): Settings {
  return scope.value === "all" ? defaults.value : ownOf(current.value);
}

function write(name: NumberField | "system", value: number | string | null): void {
  const { [name]: _, ...rest } = read();
  const changed: Settings = value === null || value === "" ? rest : { ...rest, [name]: value };
  if (scope.value === "all") setDefaults(changed);
  else setOwn(current.value, changed);
}

function Fields() {
  const now = read();
  const behind = scope.value === "here" ? defaults.value : {};
  const clear = () => {
    for (const field of NUMBER_FIELDS) write(field, null);
    write("system", null);
    say(t("set_cleared"));
  };
  return (
    <div class="fields">
      <label for="set-system">{t("set_system")}</label>
      <textarea
        id="set-system"
        rows={4}
        dir="auto"
        maxLength={MOST_SYSTEM}
        placeholder={behind.system ?? ""}
        aria-describedby="set-system-hint"
        defaultValue={now.system ?? ""}
        onChange={(event) => write("system", event.currentTarget.value)}
      />
      <p id="set-system-hint" class="quiet">
        {t("set_system_hint")}
      </p>
      {NUMBER_FIELDS.map((field) => (
        <NumberInput key={field} field={field} value={now[field]} behind={behind[field]} />
      ))}
      <button type="button" class="quiet-button" id="set-clear" onClick={clear}>
        {t(scope.value === "all" ? "set_clear_all" : "set_clear_here")}
      </button>
    </div>
  );
}

interface NumberProps {
  field: NumberField;
  value: number | undefined;
  behind: number | undefined;
}

function NumberInput({ field, value, behind }: NumberProps) {
  const wrong = useSignal(false);
  const { least, most } = NUMBERS[field];
  const bounds = { least, most };
  const id = `set-${field}`;
  const take = (typed: string) => {
    const number = readNumber(field, typed);
    wrong.value = number === undefined;
    if (number !== undefined) write(field, number);
  };
  return (
    <>
      <label for={id}>{t(`set_${field}`)}</label>
      <input
        id={id}
        inputMode="decimal"
        autocomplete="off"
        placeholder={behind === undefined ? t("set_by_model") : String(behind)}
        aria-invalid={wrong.value}
        aria-describedby={`${id}-hint ${id}-wrong`}
        defaultValue={value === undefined ? "" : String(value)}
        onInput={(event) => take(event.currentTarget.value)}
      />
      <p id={`${id}-hint`} class="quiet">
        {t(`set_${field}_hint`)}
      </p>
      <p id={`${id}-wrong`} class="wrong" role="alert">
        {wrong.value ? t(NUMBERS[field].whole ? "set_wrong_whole" : "set_wrong", bounds) : ""}
      </p>
    </>
  );
}

// --- Personas --------------------------------------------------------------------------------------------

function PersonaChoice() {
  const now = ownOf(current.value).persona ?? "";
  const take = (id: string) => {
    const found = all.value.find((one) => one.id === id);
    apply(current.value, found, model.value?.id ?? "");
    say(found ? t("persona_used", { name: found.name }) : t("persona_none"));
  };
  const known = !now || all.value.some((one) => one.id === now);
  return (
    <div class="fields">
      <label for="persona">{t("persona")}</label>
      <select id="persona" value={now} onChange={(event) => take(event.currentTarget.value)}>
        <option value="">{t("persona_none")}</option>
        {known ? null : <option value={now}>{nameOf(now) || t("persona_gone")}</option>}
        {ofSite.value.length ? (
          <optgroup label={t("personas_site")}>
            {ofSite.value.map((one) => (
              <option key={one.id} value={one.id}>
                {one.name}
              </option>
            ))}
          </optgroup>
        ) : null}
        {personas.value.length ? (
          <optgroup label={t("personas_own")}>
            {personas.value.map((one) => (
              <option key={one.id} value={one.id}>
                {one.name}
              </option>
            ))}
          </optgroup>
        ) : null}
      </select>
      <PersonaNotes id={now} />
      <SaveAsPersona settings={ownOf(current.value)} />
    </div>
  );
}

function PersonaNotes({ id }: { id: string }) {
  const found = all.value.find((one) => one.id === id);
  const wish = suggested.value;
  return (
    <div role="status">
      {siteState.value === "failed" ? <p class="quiet">{t("personas_failed")}</p> : null}
      {found?.description ? (
        <p class="quiet" dir="auto">
          {found.description}
        </p>
      ) : null}
      {wish && wish !== model.value?.id ? (
        <p class="row">
          {t("persona_model", { model: wish, now: model.value?.id ?? "" })}
          <button type="button" class="button small" id="persona-model" onClick={() => choose(wish)}>
            {t("persona_model_use", { model: wish })}
          </button>
        </p>
      ) : null}
    </div>
  );
}

// Says under which persona the conversation on view is held.
export function PersonaChip() {
  const name = nameOf(ownOf(current.value).persona);
  if (!name) return null;
  return (
    <button type="button" class="chip" id="persona-chip" onClick={() => openPanel("system")}>
      {t("persona")}: <bdi>{name}</bdi>
    </button>
  );
}

// --- The link --------------------------------------------------------------------------------------------

function LinkCopy() {
  const done = useSignal("");
  const copy = async () => {
    const base = location.origin + at("/");
    const settings = { ...defaults.value, ...ownOf(current.value) };
    const address = link(base, { settings, model: model.value?.id ?? "" });
    if (!fits(address)) {
      done.value = t("link_long");
      return;
    }
    try {
      await navigator.clipboard.writeText(address);
      done.value = t("link_copied");
    } catch {
      done.value = address;
    }
  };
  return (
    <div class="fields">
      <button type="button" class="button small" id="link-copy" onClick={copy}>
        {t("link_copy")}
      </button>
      <p class="quiet">{t("link_hint")}</p>
      <p role="status" class="long">
        {done.value}
      </p>
    </div>
  );
}
