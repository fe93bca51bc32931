// Footnotes: the signs that lead to them, and they themselves below the text, each with a way back.

import { t } from "../texts.ts";
import type { Footnote } from "./footnotes.ts";
import { Prose } from "./markdown.tsx";
import type { Known, Makers } from "./nodes.ts";

// The sign from which the reader came.
let left: HTMLElement | null = null;

function noteId(id: string, number: number): string {
  return `note-${id}-${number}`;
}

// An address with # would be another place of the page's history: the focus alone moves.
function go(to: HTMLElement | null | undefined, event: Event): void {
  event.preventDefault();
  to?.focus();
  to?.scrollIntoView({ block: "nearest" });
}

export function Mention({ id, number }: { id: string; number: number }) {
  const target = noteId(id, number);
  const follow = (event: Event) => {
    left = event.currentTarget as HTMLElement;
    go(document.getElementById(target), event);
  };
  return (
    <sup>
      <a href={`#${target}`} class="mention" aria-label={t("footnote", { n: number })} onClick={follow}>
        {number}
      </a>
    </sup>
  );
}

interface Props {
  id: string;
  notes: readonly Footnote[];
  known: Known;
  makers: Makers;
}

export function Footnotes({ id, notes, known, makers }: Props) {
  return (
    <section class="footnotes" aria-label={t("footnotes")}>
      <ol>
        {notes.map((note, at) => (
          <li key={note.name} id={noteId(id, at + 1)} tabIndex={-1}>
            <Prose source={note.text} known={known} makers={makers} />
            <Back target={noteId(id, at + 1)} number={at + 1} />
          </li>
        ))}
      </ol>
    </section>
  );
}

function Back({ target, number }: { target: string; number: number }) {
  const address = `#${target}`;
  const back = (event: Event) => {
    const came = left?.isConnected && left.getAttribute("href") === address ? left : null;
    go(came ?? document.querySelector<HTMLElement>(`.mention[href="${CSS.escape(address)}"]`), event);
  };
  return (
    <a href={address} class="back" aria-label={t("footnote_back", { n: number })} onClick={back}>
      ↩
    </a>
  );
}
