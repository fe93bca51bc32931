// The last deletion, which can be undone until it is dismissed, another follows, or the page ends.
import { signal } from "@preact/signals";
import { t } from "../texts.ts";
import { say } from "./said.ts";

export interface Undo {
  text: string;
  undo: () => Promise<void>;
}

export const undo = signal<Undo | null>(null);

// Says what was deleted, and offers the way back. It is gone, or back, when the disk says so.
export function offer(text: string, back: () => Promise<void>): void {
  say(text);
  let begun = false;
  const made: Undo = {
    text,
    undo: async () => {
      // The button is there until all is back.
      if (begun) return;
      begun = true;
      await back();
      if (undo.value === made) undo.value = null;
      say(t("put_back"));
    },
  };
  undo.value = made;
}
