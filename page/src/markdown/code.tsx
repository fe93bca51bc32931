// Code in its box: its language, a button that copies it, colours when they are there.
import { useSignal } from "@preact/signals";
import type { ComponentChild, VNode } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { IconButton } from "../chat/icons.tsx";
import { say } from "../chat/said.ts";
import { t } from "../texts.ts";
import { turn } from "./budget.ts";
import { LONGEST_CODE, wordsOf } from "./colours.ts";
import type { Word } from "./languages.ts";
import { Plain } from "./plain.tsx";

const SAID_FOR = 1_500;
const NO_COLOURS = new Set(["", "text", "txt", "plain", "plaintext", "none", "output", "console-output"]);

// Code that grows is coloured again after so many milliseconds.
const PAUSE = 300;
// Words are made into elements in groups of so many characters: of code that grows, only the last groups change.
const GROUP = 1_500;

export function CodeBox({ text, language }: { text: string; language: string }) {
  return (
    <div class="code">
      <div class="code-bar">
        <span>{language}</span>
        <CopyButton text={text} label={t("copy_code")} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0}>
        <code>
          {NO_COLOURS.has(language) ? <Plain text={text} /> : <Coloured text={text} language={language} />}
        </code>
      </pre>
    </div>
  );
}

interface Made {
  // As far as the colours go.
  text: string;
  language: string;
  groups: ComponentChild[];
}

function Coloured({ text, language }: { text: string; language: string }) {
  const made = useSignal<Made>({ text: "", language: "", groups: [] });
  const latest = useRef({ text, language });
  // busy: colours are under way. gone: nobody sees this any more. plain: the language for which there are no colours.
  const state = useRef({ busy: false, gone: false, plain: "" });
  latest.current = { text, language };
  // One at a time: what has come meanwhile is coloured after it.
  const colour = async () => {
    const wanted = latest.current;
    if (state.current.busy || state.current.gone || state.current.plain === wanted.language) return;
    state.current.busy = true;
    const words = await wordsOf(wanted.text, wanted.language);
    if (words) made.value = { ...wanted, groups: grouped(words, made.value.groups) };
    else state.current.plain = wanted.language;
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    state.current.busy = false;
    if (latest.current.text !== wanted.text || latest.current.language !== wanted.language) colour();
  };
  useEffect(() => {
    colour();
  }, [text, language]);
  useEffect(
    () => () => {
      state.current.gone = true;
    },
    [],
  );
  const done = made.value;
  const fits = done.language === language && text.startsWith(done.text) && text.length <= LONGEST_CODE;
  if (!done.groups.length || !fits) {
    return <Plain text={text} />;
  }
  return (
    <>
      {done.groups}
      {text.slice(done.text.length)}
    </>
  );
}

// Elements for words. A group that says what the one before it in this place said is the same element.
function grouped(words: readonly Word[], before: readonly ComponentChild[]): ComponentChild[] {
  const groups: ComponentChild[] = [];
  let group: Word[] = [];
  let size = 0;
  const end = () => {
    const said = group.map((one) => `${one.kind}\0${one.text}`).join("\0");
    const old = before[groups.length] as VNode<GroupProps> | undefined;
    groups.push(old?.props.said === said ? old : <Group key={groups.length} words={group} said={said} />);
    group = [];
    size = 0;
  };
  for (const word of words) {
    group.push(word);
    size += word.text.length;
    if (size > GROUP) end();
  }
  if (group.length) end();
  return groups;
}

interface GroupProps {
  words: readonly Word[];
  // All of them in one, to compare.
  said: string;
}

// An element costs more than a character.
const COST = 2;

function Group({ words, said }: GroupProps) {
  const ready = useMemo(() => turn(COST * said.length), []).value;
  if (!ready) return <>{words.map((one) => one.text).join("")}</>;
  return (
    <>
      {words.map((one, at) =>
        one.kind ? (
          <span key={at} class={one.kind}>
            {one.text}
          </span>
        ) : (
          one.text
        ),
      )}
    </>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const state = useSignal<"" | "copied" | "copy_failed">("");
  useEffect(() => {
    if (!state.value) return undefined;
    const timer = setTimeout(() => {
      state.value = "";
    }, SAID_FOR);
    return () => clearTimeout(timer);
  }, [state.value]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      state.value = "copied";
    } catch {
      state.value = "copy_failed";
    }
    say(t(state.value || "copied"));
  };
  return (
    <IconButton
      icon={state.value === "copied" ? "check" : "copy"}
      label={state.value ? t(state.value) : label}
      onClick={copy}
      hidden={!navigator.clipboard}
    />
  );
}
