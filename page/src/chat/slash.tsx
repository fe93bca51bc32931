// The menu of saved prompts: a slash at the beginning of a line opens it.
import { computed, signal } from "@preact/signals";
import { inserted, offered, slashAt } from "../settings/slash.ts";
import type { Prompt } from "../store/rows.ts";
import { t } from "../texts.ts";
import { draft, typed } from "./drafts.ts";
import { step } from "./offer.ts";
import { say } from "./said.ts";
import { prompts } from "./shelves.ts";

const caret = signal(0);
const active = signal(0);
// The text at which somebody has closed the menu: it stays closed until another is typed.
const closed = signal<string | null>(null);

const slash = computed(() => (closed.value === draft.value ? null : slashAt(draft.value, caret.value)));
const found = computed<readonly Prompt[]>(() =>
  slash.value ? offered(prompts.value, slash.value.query) : [],
);

export const isOpen = computed(() => found.value.length > 0);
export const activeId = computed(() => (isOpen.value ? `slash-${active.value}` : undefined));

// The text or the caret has changed.
export function moved(box: HTMLTextAreaElement): void {
  const wasOpen = isOpen.value;
  caret.value = box.selectionEnd;
  active.value = 0;
  if (isOpen.value && !wasOpen) say(t("slash_open", { n: found.value.length }));
}

function take(prompt: Prompt | undefined): void {
  const at = slash.value;
  if (!prompt || !at) return;
  const made = inserted(draft.value, caret.value, at, prompt.text);
  typed(made.text);
  // What a prompt itself begins with opens no menu.
  closed.value = made.text;
  requestAnimationFrame(() => {
    const box = document.getElementById("input") as HTMLTextAreaElement | null;
    box?.focus();
    box?.setSelectionRange(made.caret, made.caret);
  });
}

// Says whether the key was the menu's. The caller has seen to words that are being composed.
export function onMenuKey(event: KeyboardEvent): boolean {
  if (!isOpen.value) return false;
  const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (by) active.value = step(active.value, by, found.value.length);
  else if ((event.key === "Enter" && !event.shiftKey) || event.key === "Tab") take(found.value[active.value]);
  else if (event.key === "Escape") closed.value = draft.value;
  else return false;
  event.preventDefault();
  event.stopPropagation();
  return true;
}

export function SlashMenu() {
  if (!isOpen.value) return null;
  return (
    <div id="slash" role="listbox" aria-label={t("prompts")} class="models up">
      {found.value.map((one, at) => (
        // biome-ignore lint/a11y/useKeyWithClickEvents: the keys go to the text, which says which entry is meant
        <div
          key={one.id}
          id={`slash-${at}`}
          role="option"
          tabIndex={-1}
          class="model-option"
          aria-selected={at === active.value}
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => take(one)}
        >
          <span class="model-name" dir="auto">
            {one.name}
          </span>
          <span class="quiet" dir="auto">
            {one.text.slice(0, 120)}
          </span>
        </div>
      ))}
    </div>
  );
}
