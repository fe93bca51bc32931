// The choice of a model, with its live state: a combobox, whose list one opens with a key, a click or a finger.
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Model } from "../api/api.ts";
import { called, t } from "../texts.ts";
import { choose, model, models, stateOf, statusText } from "./models.ts";
import { matching, step } from "./offer.ts";

const PAGE = 8;
// All models here answer a chat; that their tokens can be counted is for programs.
const UNTOLD = new Set(["chat", "count_tokens", "input_tokens", "tokenize"]);

export function ModelPicker() {
  const chosen = model.value;
  return (
    <>
      <ModelBox id="model" label={t("model")} chosen={chosen} onChoose={choose} describedBy="model-status" />
      <span id="model-status" class="status" role="status" data-state={stateOf(chosen)}>
        <span class="status-text">{statusText(chosen)}</span>
      </span>
    </>
  );
}

interface Props {
  id: string;
  label: string;
  chosen: Model | undefined;
  onChoose: (name: string) => void;
  // The id of what tells the chosen model's state.
  describedBy?: string;
  // The list opens above it.
  up?: boolean;
}

interface Box extends Props {
  open: Signal<boolean>;
  // What was typed since the list was opened; null for nothing.
  typed: Signal<string | null>;
  // The entry that the keys have come to, by its place in the list; -1 for none.
  active: Signal<number>;
  found: readonly Model[];
}

export function ModelBox(props: Props) {
  const open = useSignal(false);
  const typed = useSignal<string | null>(null);
  const active = useSignal(-1);
  const input = useRef<HTMLInputElement>(null);
  const found = open.value ? matching(models.value, typed.value ?? "", said) : [];
  const box: Box = { ...props, open, typed, active, found };
  const { id, label, chosen } = props;
  useEffect(() => {
    document.getElementById(`${id}-${active.value}`)?.scrollIntoView({ block: "nearest" });
  }, [id, active.value]);
  return (
    <div class={`picker${chosen?.external ? " external" : ""}`}>
      <label for={id} class="hidden">
        {label}
      </label>
      <input
        id={id}
        ref={input}
        type="text"
        role="combobox"
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        aria-expanded={open.value}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={found[active.value] ? `${id}-${active.value}` : undefined}
        aria-describedby={props.describedBy}
        disabled={!models.value.length}
        value={typed.value ?? chosen?.id ?? ""}
        onClick={() => (open.value ? close(box) : show(box, input.current))}
        onInput={(event) => search(box, event.currentTarget.value)}
        onKeyDown={(event) => onKey(box, event, input.current)}
        onBlur={() => close(box)}
      />
      <div
        id={`${id}-list`}
        role="listbox"
        aria-label={label}
        class={props.up ? "models up" : "models"}
        hidden={!open.value}
      >
        {open.value ? <Options box={box} /> : null}
      </div>
    </div>
  );
}

// --- What it does ----------------------------------------------------------------------------------------

function show({ open, active, chosen }: Box, input: HTMLInputElement | null): void {
  open.value = true;
  active.value = matching(models.value, "").findIndex((one) => one.id === chosen?.id);
  input?.select();
}

function close({ open, typed, active }: Box): void {
  open.value = false;
  typed.value = null;
  active.value = -1;
}

function search({ open, typed, active }: Box, text: string): void {
  open.value = true;
  typed.value = text;
  active.value = text ? 0 : -1;
}

function take(box: Box, name: string | undefined): void {
  if (name) box.onChoose(name);
  close(box);
}

const STEPS: Readonly<Record<string, number>> = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE };

function onKey(box: Box, event: KeyboardEvent, input: HTMLInputElement | null): void {
  // While a word is being composed, the keys belong to it.
  if (event.isComposing || event.keyCode === 229) return;
  const { open, active, found } = box;
  const by = STEPS[event.key];
  if (by !== undefined) {
    event.preventDefault();
    if (open.value) active.value = step(active.value, by, found.length);
    else show(box, input);
  } else if (event.key === "Enter" && open.value) {
    event.preventDefault();
    take(box, found[active.value]?.id);
  } else if (event.key === "Escape" && open.value) {
    // It closes the list and stops no answer.
    event.stopPropagation();
    event.preventDefault();
    close(box);
  }
}

// --- What it shows ---------------------------------------------------------------------------------------

function Options({ box }: { box: Box }) {
  if (!box.found.length) {
    return (
      <div role="option" tabIndex={-1} aria-disabled="true" aria-selected="false" class="model-option quiet">
        {t("model_none")}
      </div>
    );
  }
  return (
    <>
      {box.found.map((one, at) => (
        // biome-ignore lint/a11y/useKeyWithClickEvents: the keys go to the combobox, which says which entry is meant
        <div
          key={one.id}
          id={`${box.id}-${at}`}
          role="option"
          tabIndex={-1}
          class="model-option"
          data-model={one.id}
          aria-selected={at === box.active.value}
          aria-current={one.id === box.chosen?.id ? "true" : undefined}
          // The keyboard stays where it is.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => take(box, one.id)}
        >
          <span class="model-name">
            {one.id}
            {one.external ? <span class="badge">{t("external")}</span> : null}
          </span>
          <span class="status" data-state={stateOf(one)}>
            {statusText(one)}
          </span>
          <span class="quiet">{said(one)}</span>
        </div>
      ))}
    </>
  );
}

// What is to know of a model before one chooses it, in one line.
function said(one: Model): string {
  const length = one.context_length;
  const parts = [
    one.external ? elsewhere(one) : "",
    one.description ?? "",
    length ? t("context_length", { n: length }) : "",
    ...(one.capabilities ?? []).filter((name) => !UNTOLD.has(name)).map((name) => called("can", name)),
  ];
  return parts.filter(Boolean).join(" · ");
}

function elsewhere(one: Model): string {
  return t("external_at", { provider: one.provider || one.id, region: one.region || t("external_nowhere") });
}
