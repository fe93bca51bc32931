// A diagram in Mermaid's language: a picture, and its source in words.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { t } from "../texts.ts";
import { CodeBox } from "./code.tsx";
import { draw, type Fault, type Picture } from "./drawing.ts";
import { dark } from "./scheme.ts";

// Text that still grows is not drawn: it is drawn when it has stayed the same for so long, in milliseconds.
const SETTLED = 500;

export function isDiagram(language: string): boolean {
  return language.toLowerCase() === "mermaid";
}

type Shown = { of: string; address: string; picture: Picture } | { of: string; fault: Fault } | null;

export function Diagram({ text }: { text: string }) {
  const shown = useSignal<Shown>(null);
  const colours = dark.value;
  useEffect(() => {
    let over = false;
    let address = "";
    const timer = setTimeout(async () => {
      const made = await draw(text, colours);
      if (over) return;
      if ("fault" in made) {
        shown.value = { of: text, fault: made.fault };
        return;
      }
      address = URL.createObjectURL(new Blob([made.svg], { type: "image/svg+xml" }));
      shown.value = { of: text, address, picture: made };
    }, SETTLED);
    return () => {
      over = true;
      clearTimeout(timer);
      if (address) URL.revokeObjectURL(address);
    };
  }, [text, colours]);
  const made = shown.value?.of === text ? shown.value : null;
  if (!made || "fault" in made) {
    return (
      <div class="diagram">
        <CodeBox text={text} language="mermaid" />
        {made ? <p class="quiet fault">{t(made.fault)}</p> : null}
      </div>
    );
  }
  return (
    <figure class="diagram">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <div class="scroll" tabIndex={0}>
        <img
          src={made.address}
          width={made.picture.width}
          height={made.picture.height}
          alt={made.picture.title || t("diagram")}
        />
      </div>
      <details>
        <summary>{t("diagram_source")}</summary>
        <CodeBox text={text} language="mermaid" />
      </details>
    </figure>
  );
}
