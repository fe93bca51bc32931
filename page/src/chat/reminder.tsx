// Reminds of exporting, if the reader wants that: what is in one browser alone is lost with it.
import { signal } from "@preact/signals";
import { t } from "../texts.ts";
import { EXPORTED, saveEverything } from "./exporting.ts";
import { focusInput } from "./focus.ts";
import { IconButton } from "./icons.tsx";
import { conversations } from "./library.ts";
import { settings } from "./shelves.ts";

// After how many days; 0 for never.
export const REMIND = "remind";
const DAY = 86_400_000;

const dismissed = signal(false);

// How many days ago all was exported, or the oldest conversation begun; null where there is nothing to remind of.
export function due(now: number): number | null {
  const after = settings.value.get(REMIND);
  const rows = conversations.value.filter((row) => !row.temporary);
  if (typeof after !== "number" || after <= 0 || !rows.length) return null;
  const last = settings.value.get(EXPORTED);
  // Nothing has been written since.
  if (typeof last === "number" && rows.every((row) => row.updated <= last)) return null;
  const began = rows.reduce((first, row) => Math.min(first, row.created), now);
  const since = typeof last === "number" ? last : began;
  const days = Math.floor((now - since) / DAY);
  return days >= after ? days : null;
}

export function Reminder() {
  const days = dismissed.value ? null : due(Date.now());
  if (days === null) return null;
  const save = async () => {
    await saveEverything();
    focusInput();
  };
  return (
    <p id="reminder" class="row">
      <span>{t("reminder", { n: days })}</span>
      <button type="button" class="button small" onClick={save}>
        {t("export_all")}
      </button>
      <IconButton
        icon="close"
        label={t("dismiss")}
        onClick={() => {
          dismissed.value = true;
          focusInput();
        }}
      />
    </p>
  );
}
