// Text as it is, in pieces that a browser lays out when they come into view.
import { useMemo } from "preact/hooks";
import { turnFor } from "./budget.ts";
import { pieces } from "./split.ts";

export function Plain({ text }: { text: string }) {
  const cut = useMemo(() => pieces(text), [text]);
  if (cut.length < 2) return <>{text}</>;
  return (
    <>
      {cut.map((piece, at) => (
        <Piece key={at} text={piece} />
      ))}
    </>
  );
}

function Piece({ text }: { text: string }) {
  const ready = useMemo(() => turnFor(text), []);
  return <span class="piece">{ready.value ? text.replace(/\n$/, "") : ""}</span>;
}
