// The reader's own personas and saved prompts: written, changed, deleted, exported and imported.
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { isNothing, usable } from "../settings/fields.ts";
import { MOST_FILE, MOST_NAME, MOST_PROMPT, named, read, write } from "../settings/files.ts";
import type { Prompt, Settings } from "../store/rows.ts";
import { t } from "../texts.ts";
import { save } from "./exporting.ts";
import { IconButton } from "./icons.tsx";
import { say } from "./said.ts";
import { personas, prompts, putOn, takeFrom } from "./shelves.ts";
import { offer } from "./undo.ts";

// --- Personas --------------------------------------------------------------------------------------------

// Keeps the settings of a conversation under a name.
export function SaveAsPersona({ settings }: { settings: Settings }) {
  const name = useSignal("");
  if (isNothing(settings)) return null;
  const keep = async (event: Event) => {
    event.preventDefault();
    const found = named(name.value);
    if (!found) return;
    const { persona: _, ...rest } = usable(settings);
    name.value = "";
    await putOn("personas", {
      id: crypto.randomUUID(),
      name: found,
      description: "",
      settings: rest,
      created: Date.now(),
    });
    say(t("persona_kept", { name: found }));
  };
  return (
    <form class="row" onSubmit={keep}>
      <label for="persona-name">{t("persona_keep")}</label>
      <input
        id="persona-name"
        maxLength={MOST_NAME}
        autocomplete="off"
        value={name.value}
        onInput={(event) => (name.value = event.currentTarget.value)}
      />
      <button type="submit" class="button small" disabled={!named(name.value)}>
        {t("keep")}
      </button>
    </form>
  );
}

export function OwnPersonas() {
  const rows = personas.value;
  return (
    <>
      {rows.length ? null : <p class="quiet">{t("personas_empty")}</p>}
      <ul class="shelf">
        {rows.map((one) => (
          <li key={one.id} class="row">
            <input
              aria-label={t("name")}
              dir="auto"
              maxLength={MOST_NAME}
              value={one.name}
              onChange={(event) =>
                putOn("personas", { ...one, name: named(event.currentTarget.value) || one.name })
              }
            />
            <input
              aria-label={t("description")}
              dir="auto"
              maxLength={1000}
              placeholder={t("description")}
              value={one.description}
              onChange={(event) => putOn("personas", { ...one, description: event.currentTarget.value })}
            />
            <IconButton
              icon="trash"
              label={t("delete_named", { name: one.name })}
              onClick={() => remove("personas", one)}
            />
          </li>
        ))}
      </ul>
      <Exchange />
    </>
  );
}

// --- Prompts ---------------------------------------------------------------------------------------------

export function SavedPrompts() {
  const rows = prompts.value;
  return (
    <>
      <p class="quiet">{t("prompts_hint")}</p>
      <ul class="shelf">
        {rows.map((one) => (
          <li key={one.id}>
            <PromptForm prompt={one} />
          </li>
        ))}
        <li key={`new ${rows.length}`}>
          <PromptForm />
        </li>
      </ul>
      <Exchange />
    </>
  );
}

// Changes a prompt, or writes a new one.
function PromptForm({ prompt }: { prompt?: Prompt }) {
  const name = useSignal(prompt?.name ?? "");
  const text = useSignal(prompt?.text ?? "");
  const id = prompt?.id ?? "new";
  // Pressed twice before it is stored, the button makes one prompt.
  const fresh = useMemo(() => crypto.randomUUID(), []);
  const whole = Boolean(named(name.value) && text.value.trim());
  const changed = name.value !== (prompt?.name ?? "") || text.value !== (prompt?.text ?? "");
  const keep = async (event: Event) => {
    event.preventDefault();
    if (!whole) return;
    const row = { id: prompt?.id ?? fresh, created: prompt?.created ?? Date.now() };
    await putOn("prompts", { ...row, name: named(name.value), text: text.value });
    say(t("prompt_kept", { name: named(name.value) }));
  };
  return (
    <form class="fields" onSubmit={keep}>
      <label for={`prompt-${id}`}>{t(prompt ? "name" : "prompt_new")}</label>
      <input
        id={`prompt-${id}`}
        dir="auto"
        maxLength={MOST_NAME}
        autocomplete="off"
        value={name.value}
        onInput={(event) => (name.value = event.currentTarget.value)}
      />
      <label for={`prompt-${id}-text`}>{t("prompt_text")}</label>
      <textarea
        id={`prompt-${id}-text`}
        rows={2}
        dir="auto"
        maxLength={MOST_PROMPT}
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
      />
      <div class="row">
        <button type="submit" class="button small" disabled={!whole || !changed}>
          {t("keep")}
        </button>
        {prompt ? (
          <IconButton
            icon="trash"
            label={t("delete_named", { name: prompt.name })}
            onClick={() => remove("prompts", prompt)}
          />
        ) : null}
      </div>
    </form>
  );
}

// --- Both ------------------------------------------------------------------------------------------------

type Row<Name> = Name extends "prompts" ? Prompt : (typeof personas.value)[number];

async function remove<Name extends "personas" | "prompts">(shelf: Name, row: Row<Name>): Promise<void> {
  await takeFrom(shelf, row.id);
  offer(t("deleted_named", { name: row.name }), () => putOn(shelf, row as never));
}

function Exchange() {
  const told = useSignal("");
  const bring = async (input: HTMLInputElement) => {
    const file = input.files?.[0];
    if (!file) return;
    told.value = file.size > MOST_FILE ? t("personas_large") : await taken(file);
    input.value = "";
  };
  return (
    <div class="row">
      <button type="button" class="button small" onClick={give}>
        {t("export_personas")}
      </button>
      <label class="button small file">
        {t("import_personas")}
        <input
          type="file"
          class="hidden"
          accept="application/json,.json"
          onChange={(event) => bring(event.currentTarget)}
        />
      </label>
      <span role="status">{told.value}</span>
    </div>
  );
}

function give(): void {
  save([write(personas.value, prompts.value)], "application/json", "sluice-personas.json");
}

// Adds what a file has and is not here yet.
async function taken(file: File): Promise<string> {
  const found = read(await file.text());
  if (!found) return t("import_bad");
  let added = 0;
  const created = Date.now();
  for (const one of found.personas) {
    if (
      personas.value.some(
        (known) => JSON.stringify(known.settings) === JSON.stringify(one.settings) && known.name === one.name,
      )
    )
      continue;
    await putOn("personas", { id: crypto.randomUUID(), created, ...one });
    added += 1;
  }
  for (const one of found.prompts) {
    if (prompts.value.some((known) => known.text === one.text && known.name === one.name)) continue;
    await putOn("prompts", { id: crypto.randomUUID(), created, ...one });
    added += 1;
  }
  const known = found.personas.length + found.prompts.length - added;
  return t("imported", { added, known, refused: found.refused });
}
