// What is read out to somebody who does not see the page.
import { signal } from "@preact/signals";

export const said = signal("");

export function say(text: string): void {
  said.value = text;
}
