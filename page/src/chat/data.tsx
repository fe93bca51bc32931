// The dialog about what is stored: how much, export, import, the reminder, titles, and deleting.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { day } from "../formats.ts";
import { t } from "../texts.ts";
import { ask } from "./asking.tsx";
import { eraseAll } from "./erasing.ts";
import { EXPORTED, saveEverything, saveMarkdown } from "./exporting.ts";
import { ImportPart } from "./importing.tsx";
import { Kept } from "./kept.tsx";
import { askToKeep, conversations, kept, storage } from "./library.ts";
import { removeAll } from "./list.tsx";
import { REMIND } from "./reminder.tsx";
import { said, say } from "./said.ts";
import { set, settings } from "./shelves.ts";
import { TITLES } from "./titles.ts";

const opened = signal(false);

export function openData(): void {
  opened.value = true;
  askToKeep(false);
}

export function DataDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    if (opened.value) dialog.current?.showModal();
  }, [opened.value]);
  if (!opened.value) return null;
  return (
    <dialog
      ref={dialog}
      id="data"
      aria-labelledby="data-title"
      onClose={() => {
        opened.value = false;
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <h2 id="data-title">{t("data")}</h2>
      <StoredPart />
      <ExportPart />
      <ImportPart />
      <TitlesPart />
      <DeletePart close={() => dialog.current?.close()} />
      <p class="row end">
        <button type="button" class="button primary" id="data-close" onClick={() => dialog.current?.close()}>
          {t("close")}
        </button>
      </p>
      {/* What is behind a dialog is not read out. */}
      <p class="hidden" role="status">
        {said.value}
      </p>
    </dialog>
  );
}

function StoredPart() {
  const n = conversations.value.length;
  return (
    <section aria-labelledby="data-stored">
      <h3 id="data-stored">{t("data_stored")}</h3>
      <p>{t("data_stored_text", { n })}</p>
      <Kept />
      {storage.value === "ok" && kept.value && !kept.value.safe ? (
        <button type="button" class="button small" id="data-keep" onClick={keep}>
          {t("data_keep")}
        </button>
      ) : null}
    </section>
  );
}

async function keep(): Promise<void> {
  await askToKeep(true);
  say(t(kept.value?.safe ? "data_keep_yes" : "data_keep_no"));
}

function ExportPart() {
  const last = settings.value.get(EXPORTED);
  const remind = String(settings.value.get(REMIND) ?? 0);
  const markdown = () => saveMarkdown(conversations.value.filter((row) => !row.temporary));
  return (
    <section aria-labelledby="data-export">
      <h3 id="data-export">{t("data_export")}</h3>
      <p>{t("data_export_text")}</p>
      <p class="row">
        <button type="button" class="button small" id="export-all" onClick={saveEverything}>
          {t("export_all")}
        </button>
        <button type="button" class="button small" id="export-markdown" onClick={markdown}>
          {t("export_all_markdown")}
        </button>
      </p>
      <p class="quiet">
        {typeof last === "number" ? t("export_last", { day: day(last) }) : t("export_never")}
      </p>
      <label class="field">
        {t("remind")}
        <select
          id="remind"
          value={remind}
          onChange={(event) => set(REMIND, Number(event.currentTarget.value))}
        >
          {[0, 7, 30].map((days) => (
            <option key={days} value={String(days)} selected={remind === String(days)}>
              {days ? t("remind_days", { n: days }) : t("remind_never")}
            </option>
          ))}
        </select>
      </label>
    </section>
  );
}

function TitlesPart() {
  return (
    <section aria-labelledby="data-titles">
      <h3 id="data-titles">{t("titles")}</h3>
      <label class="check">
        <input
          type="checkbox"
          id="titles"
          checked={settings.value.get(TITLES) === "model"}
          onChange={(event) => set(TITLES, event.currentTarget.checked ? "model" : undefined)}
        />
        <span>{t("titles_ask")}</span>
      </label>
      <p class="quiet">{t("titles_cost")}</p>
    </section>
  );
}

function DeletePart({ close }: { close: () => void }) {
  const all = () => {
    close();
    removeAll();
  };
  const everything = async () => {
    const question = { title: t("erase"), text: t("erase_sure"), yes: t("erase_yes"), danger: true };
    if ((await ask(question)) === null) return;
    await eraseAll();
    close();
    document.getElementById("new-chat")?.focus();
  };
  return (
    <section aria-labelledby="data-delete">
      <h3 id="data-delete">{t("data_delete")}</h3>
      <p class="row">
        {conversations.value.length ? (
          <button type="button" class="button small danger" id="delete-all" onClick={all}>
            {t("delete_all")}
          </button>
        ) : null}
        <button type="button" class="button small danger" id="erase" onClick={everything}>
          {t("erase")}…
        </button>
      </p>
    </section>
  );
}
