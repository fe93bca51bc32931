// Code in its box: its language, a button that copies it.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { IconButton } from "../chat/icons.tsx";
import { say } from "../chat/said.ts";
import { t } from "../texts.ts";
import { Plain } from "./plain.tsx";

const SAID_FOR = 1_500;

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
          <Plain text={text} />
        </code>
      </pre>
    </div>
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
