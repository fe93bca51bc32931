// An answer's text as elements. Parts that have not changed are not made again, and a long text comes in turns.
import { type ComponentChild, h } from "preact";
import { useId, useMemo, useRef } from "preact/hooks";
import { turnFor } from "./budget.ts";
import { CodeBox } from "./code.tsx";
import { Diagram, isDiagram } from "./diagram.tsx";
import { footnotes, numbers } from "./footnotes.ts";
import { Formula } from "./formula.tsx";
import { type Known, type Makers, nodes } from "./nodes.ts";
import { Footnotes, Mention } from "./notes.tsx";
import { type Part, references, split } from "./split.ts";

export function Markdown({ text }: { text: string }) {
  const id = useId();
  const plain = useMemo(() => (text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text), [text]);
  const parts = useParts(plain);
  const notes = useMemo(() => footnotes(plain), [plain]);
  const names = notes.map((note) => note.name).join(" ");
  const named = useMemo(() => references(plain), [plain]);
  // What has not changed stays the same object: parts are read again when it changes.
  const known = useMemo<Known>(() => ({ references: named, notes: numbers(notes) }), [named, names]);
  const makers = useMemo(() => makersOf(id), [id]);
  return (
    <>
      {parts.map((part, at) =>
        part.kind === "code" ? (
          <Code key={at} text={part.source} language={part.language} />
        ) : (
          <Prose key={at} source={part.source} joined={part.joined} known={known} makers={makers} />
        ),
      )}
      {notes.length ? <Footnotes id={id} notes={notes} known={known} makers={makers} /> : null}
    </>
  );
}

function useParts(text: string): Part[] {
  const before = useRef<{ text: string; parts: Part[] }>({ text: "", parts: [] });
  return useMemo(() => {
    const grows = text.startsWith(before.current.text);
    const made = split(text, grows ? before.current.parts : []);
    before.current = { text, parts: made };
    return made;
  }, [text]);
}

function makersOf(id: string): Makers {
  return {
    code: (text, language) => h(Code, { text, language }),
    formula: (tex, display) => h(Formula, { tex, display }),
    mention: (number) => h(Mention, { id, number }),
  };
}

function Code({ text, language }: { text: string; language: string }): ComponentChild {
  return isDiagram(language) ? <Diagram text={text} /> : <CodeBox text={text} language={language} />;
}

interface ProseProps {
  source: string;
  joined?: boolean;
  known: Known;
  makers: Makers;
}

export function Prose({ source, joined = false, known, makers }: ProseProps) {
  const ready = useMemo(() => turnFor(source), []).value;
  // Most parts have no brackets, and do not care what is known.
  const told = source.includes("[") ? known : null;
  const made = useMemo(
    () => (ready ? nodes(source, told ?? NOTHING, makers) : []),
    [source, told, makers, ready],
  );
  return <div class={joined ? "part joined" : "part"}>{made}</div>;
}

const NOTHING: Known = { references: "", notes: new Map() };
