// The last deletion, which can be undone until it is dismissed, another follows, or the page ends.
import { signal } from "@preact/signals";
import { t } from "../texts.ts";
import { say } from "./said.ts";

export interface Undo {
  text: string;
  undo: () => void;
}

export const undo = signal<Undo | null>(null);

// Says what was deleted, and offers the way back.
export function offer(text: string, back: () => void): void {
  say(text);
  undo.value = {
    text,
    undo: () => {
      undo.value = null;
      back();
      say(t("put_back"));
    },
  };
}
