// The last deletion, which can be undone until it is dismissed, another follows, or the page ends.
import { signal } from "@preact/signals";

export interface Undo {
  text: string;
  undo: () => void;
}

export const undo = signal<Undo | null>(null);

export function offer(text: string, back: () => void): void {
  undo.value = {
    text,
    undo: () => {
      undo.value = null;
      back();
    },
  };
}
