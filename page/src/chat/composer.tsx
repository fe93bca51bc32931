// Where one types.
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { hovering } from "../attachments/drop.ts";
import { AttachButton, Tray } from "../attachments/tray.tsx";
import { t } from "../texts.ts";
import { send } from "./actions.ts";
import { runs, stop } from "./answers.ts";
import { draft, editing, endEdit, typed } from "./drafts.ts";
import { focusInput } from "./focus.ts";
import { Icon } from "./icons.tsx";
import { current } from "./library.ts";
import { toEnd } from "./log.tsx";
import { PersonaChip } from "./panel.tsx";
import { fitting, onPaste, PasteNotice } from "./paste.tsx";
import { SecondButton, SecondModel } from "./second.tsx";
import { activeId, isOpen, moved, onMenuKey, SlashMenu } from "./slash.tsx";

// A keyboard on glass has no Shift+Enter at hand: there Enter makes a new line.
const touch = matchMedia("(hover: none) and (pointer: coarse)");

function submit(): void {
  send(draft.value);
  toEnd.value += 1;
}

function onKey(event: KeyboardEvent): void {
  // While a word is being composed (Japanese, Chinese, …), Enter belongs to it; 229 is how some browsers say so.
  if (event.isComposing || event.keyCode === 229 || onMenuKey(event)) return;
  if (event.key !== "Enter" || event.shiftKey || touch.matches) return;
  event.preventDefault();
  submit();
}

export function Composer() {
  const input = useRef<HTMLTextAreaElement>(null);
  const busy = runs.value.has(current.value);
  const text = draft.value;
  useLayoutEffect(() => {
    const { current: box } = input;
    if (!box) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);
  useEffect(focusInput, [current.value]);
  return (
    <form
      id="composer"
      autocomplete="off"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {editing.value ? <Editing /> : null}
      <PasteNotice />
      <div class="chips">
        <PersonaChip />
      </div>
      <SecondModel />
      <Tray />
      <div class={hovering.value ? "composer-box dropping" : "composer-box"}>
        <SlashMenu />
        <AttachButton />
        <label for="input" class="hidden">
          {t("input")}
        </label>
        <textarea
          id="input"
          ref={input}
          rows={1}
          dir="auto"
          placeholder={t("placeholder")}
          aria-describedby="hint"
          aria-autocomplete="list"
          aria-controls={isOpen.value ? "slash" : undefined}
          aria-activedescendant={activeId.value}
          value={text}
          onInput={(event) => {
            const { value } = event.currentTarget;
            const kept = fitting(value);
            if (kept !== value) event.currentTarget.value = kept;
            typed(kept);
            moved(event.currentTarget);
          }}
          onSelect={(event) => moved(event.currentTarget)}
          onPaste={onPaste}
          onKeyDown={onKey}
        />
        <SecondButton />
        <SendOrStop busy={busy} />
      </div>
      <p id="hint" class="quiet">
        {t("hint")}
      </p>
    </form>
  );
}

function SendOrStop({ busy }: { busy: boolean }) {
  const halt = (event: MouseEvent) => {
    // A double click on the button before it, which stood in this place, would stop what it has sent.
    if (event.detail === 2) return;
    stop(current.value);
    focusInput();
  };
  return busy ? (
    <button
      key="stop"
      type="button"
      class="round"
      id="stop"
      aria-label={t("stop")}
      title={t("stop")}
      onClick={halt}
    >
      <Icon name="stop" />
    </button>
  ) : (
    <button key="send" type="submit" class="round" id="send" aria-label={t("send")} title={t("send")}>
      <Icon name="send" />
    </button>
  );
}

function Editing() {
  return (
    <p id="editing" class="quiet row" role="status">
      {t("editing")}
      <button
        type="button"
        class="quiet-button"
        onClick={() => {
          endEdit();
          focusInput();
        }}
      >
        {t("editing_stop")}
      </button>
    </p>
  );
}
