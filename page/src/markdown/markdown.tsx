// An answer's text as elements. Parts that have not changed are not made again, and a long text comes in turns.
import { type Signal, useSignal } from "@preact/signals";
import { type ComponentChild, h } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { IconButton } from "../chat/icons.tsx";
import { say } from "../chat/said.ts";
import { t } from "../texts.ts";
import { turnFor } from "./budget.ts";
import { nodes } from "./nodes.ts";
import { type Part, pieces, references, split } from "./split.ts";

const SAID_FOR = 1_500;

export function Markdown({ text }: { text: string }) {
  const before = useRef<{ text: string; parts: Part[] }>({ text: "", parts: [] });
  const plain = useMemo(() => (text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text), [text]);
  const parts = useMemo(() => {
    const grows = plain.startsWith(before.current.text);
    const made = split(plain, grows ? before.current.parts : []);
    before.current = { text: plain, parts: made };
    return made;
  }, [plain]);
  const named = useMemo(() => references(plain), [plain]);
  return (
    <>
      {parts.map((part, at) =>
        part.kind === "code" ? (
          <CodeBox key={at} text={part.source} language={part.language} />
        ) : (
          <Prose key={at} source={part.source} joined={part.joined} named={named} />
        ),
      )}
    </>
  );
}

function useTurn(text: string): Signal<boolean> {
  return useMemo(() => turnFor(text), []);
}

function Prose({ source, joined, named }: { source: string; joined: boolean; named: string }) {
  const ready = useTurn(source);
  const made = useMemo(
    () => (ready.value ? nodes(source, named, codeBox) : []),
    [source, named, ready.value],
  );
  return <div class={joined ? "part joined" : "part"}>{made}</div>;
}

function codeBox(text: string, language: string): ComponentChild {
  return h(CodeBox, { text, language });
}

// Text as it is, in pieces that a browser lays out when they come into view.
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
  const ready = useTurn(text);
  return <span class="piece">{ready.value ? text.replace(/\n$/, "") : ""}</span>;
}

function CodeBox({ text, language }: { text: string; language: string }) {
  return (
    <div class="code">
      <div class="code-bar">
        <span>{language}</span>
        <CopyButton text={text} label={t("copy_code")} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0}>
        <code>
          <Plain text={text} />
        </code>
      </pre>
    </div>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const copied = useSignal(false);
  useEffect(() => {
    if (!copied.value) return undefined;
    const timer = setTimeout(() => {
      copied.value = false;
    }, SAID_FOR);
    return () => clearTimeout(timer);
  }, [copied.value]);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    copied.value = true;
    say(t("copied"));
  };
  const shown = copied.value ? t("copied") : label;
  return (
    <IconButton
      icon={copied.value ? "check" : "copy"}
      label={shown}
      onClick={copy}
      hidden={!navigator.clipboard}
    />
  );
}
