// A formula: its source until it is drawn, and where it cannot be.
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { t } from "../texts.ts";
import { turn } from "./budget.ts";
import { CopyButton } from "./code.tsx";
import { beside, lazily, linkStyles } from "./lazy.ts";
import { FORMULA, source, wholeFormulas } from "./words.ts";

// The build gives the files' names (build.mjs).
declare const TYPESETTING: string;
declare const FORMULA_STYLES: string;

const typesetter = lazily(async () => {
  const load: Promise<typeof import("./typesetting.ts")> = import(beside(TYPESETTING));
  const [part] = await Promise.all([load, linkStyles(FORMULA_STYLES)]);
  document.addEventListener("copy", wholeFormulas);
  return part;
});

// What a formula costs beside text: in characters, for itself and for each of its own.
const COST = 1_000;
const COST_A_CHARACTER = 40;

type State = "waiting" | "drawn" | "faulty";

export function Formula({ tex, display }: { tex: string; display: boolean }) {
  const ready = useMemo(() => turn(COST + COST_A_CHARACTER * tex.length), []).value;
  const part = typesetter.part.value;
  const place = useRef<HTMLSpanElement>(null);
  const state = useSignal<State>("waiting");
  const scrolls = useSignal(false);
  useEffect(typesetter.want, []);
  useLayoutEffect(() => {
    if (!ready || !part || !place.current) return;
    state.value = part.typeset(place.current, tex, display) ? "drawn" : "faulty";
  }, [tex, display, ready, part]);
  const drawn = state.value === "drawn";
  // While it is hidden it has no width.
  useLayoutEffect(() => {
    const box = place.current;
    scrolls.value = Boolean(drawn && display && box && box.scrollWidth > box.clientWidth);
  }, [drawn, tex, display, part]);
  const given = source(tex, display);
  return (
    <span class={display ? `${FORMULA} display` : FORMULA} data-source={given}>
      {drawn ? null : <code>{given}</code>}
      {/* What scrolls must be reachable by keyboard. */}
      <span class="typeset" ref={place} hidden={!drawn} {...(scrolls.value ? { tabIndex: 0 } : {})} />
      {state.value === "faulty" ? <span class="quiet fault"> {t("formula_fault")}</span> : null}
      {display && drawn ? <CopyButton text={tex} label={t("copy_formula")} /> : null}
    </span>
  );
}
