// What somebody pastes may be longer than any model reads, or hold what nobody sees.
import { signal } from "@preact/signals";
import { bare, hidden } from "../settings/hidden.ts";
import { t } from "../texts.ts";
import { draft, typed } from "./drafts.ts";
import { focusInput } from "./focus.ts";
import { current } from "./library.ts";
import { say } from "./said.ts";

// So many characters fit into the box: a browser lays all of them out. No model reads more than a part of them.
export const MOST_TYPED = 1_000_000;

interface Refused {
  conversation: string;
  length: number;
  start: string;
}

// What was too long, and what had characters in it that are not seen.
const long = signal<Refused | null>(null);
const unseen = signal<{ conversation: string; count: number } | null>(null);

export function onPaste(event: ClipboardEvent & { currentTarget: HTMLTextAreaElement }): void {
  const text = event.clipboardData?.getData("text/plain") ?? "";
  long.value = null;
  const room = MOST_TYPED - draft.value.length;
  if (text.length > room) {
    event.preventDefault();
    // A pair of halves is not cut in two.
    const start = text.slice(0, Math.max(0, room)).replace(/[\ud800-\udbff]$/, "");
    long.value = { conversation: current.value, length: text.length, start };
    return;
  }
  const count = hidden(text);
  unseen.value = count ? { conversation: current.value, count } : null;
}

// Returns what may stand in the box in place of `text`, which came in another way: dropped, or before the script.
export function fitting(text: string, conversation = current.value): string {
  if (text.length <= MOST_TYPED) return text;
  long.value = { conversation, length: text.length, start: "" };
  return draft.value;
}

function insert(text: string): void {
  typed(draft.value + text);
  long.value = null;
  focusInput();
}

function removeUnseen(): void {
  typed(bare(draft.value));
  unseen.value = null;
  say(t("unseen_removed"));
  focusInput();
}

export function PasteNotice() {
  const tooLong = long.value?.conversation === current.value ? long.value : null;
  const strange = unseen.value?.conversation === current.value && draft.value ? unseen.value : null;
  return (
    <div id="paste" role="status">
      {tooLong ? (
        <p class="problem waiting">
          {t("paste_long", { n: tooLong.length, most: MOST_TYPED })}{" "}
          {tooLong.start ? (
            <button type="button" class="quiet-button" onClick={() => insert(tooLong.start)}>
              {t("paste_start", { n: tooLong.start.length })}
            </button>
          ) : null}
          <button type="button" class="quiet-button" onClick={() => (long.value = null)}>
            {t("dismiss")}
          </button>
        </p>
      ) : null}
      {strange ? (
        <p class="quiet row">
          {t("unseen", { n: strange.count })}
          <button type="button" class="quiet-button" onClick={removeUnseen}>
            {t("unseen_remove")}
          </button>
          <button type="button" class="quiet-button" onClick={() => (unseen.value = null)}>
            {t("dismiss")}
          </button>
        </p>
      ) : null}
    </div>
  );
}
