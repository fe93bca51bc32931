// What a model thought before it answered, in a fold. It is open while the model thinks, unless the reader says otherwise.
import { useSignal } from "@preact/signals";
import { Markdown } from "../markdown/markdown.tsx";
import { t } from "../texts.ts";
import type { Thoughts } from "./answers.ts";

const MINUTE = 60;

export function Reasoning({ reasoning, thought, open }: Thoughts) {
  const chosen = useSignal<boolean | null>(null);
  if (!reasoning) return null;
  const shown = chosen.value ?? open;
  const toggle = (event: Event) => {
    event.preventDefault();
    chosen.value = !shown;
  };
  return (
    <details class="reasoning" open={shown}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: a summary is a button */}
      <summary onClick={toggle}>{said(thought, open)}</summary>
      {shown ? (
        <div class="thoughts" dir="auto">
          <Markdown text={reasoning} />
        </div>
      ) : null}
    </details>
  );
}

function said(milliseconds: number, open: boolean): string {
  if (open) return t("thinking");
  if (!milliseconds) return t("thoughts");
  const seconds = Math.max(1, Math.round(milliseconds / 1_000));
  const minutes = Math.floor(seconds / MINUTE);
  const parts = [minutes ? t("minutes", { n: minutes }) : "", t("seconds", { n: seconds % MINUTE })];
  return t("thought_for", { time: parts.filter(Boolean).join(" ") });
}
