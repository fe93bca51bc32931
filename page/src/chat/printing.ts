// Prints the whole conversation on view: all its messages, drawn to their end.
import { signal } from "@preact/signals";
import { t } from "../texts.ts";
import { say } from "./said.ts";

export const printing = signal(false);

// Text that is yet to be drawn is an empty element. Some stay empty: nothing changes any more when all is drawn.
const UNDRAWN = "#log .part:empty, #log .piece:empty";
const STILL = 400;
const STEP = 50;

async function drawn(): Promise<void> {
  let last = -1;
  let still = 0;
  while (still < STILL) {
    await new Promise((resolve) => setTimeout(resolve, STEP));
    const now = document.querySelectorAll(UNDRAWN).length;
    still = now === last ? still + STEP : 0;
    if (!now && still) return;
    last = now;
  }
}

export async function print(): Promise<void> {
  if (printing.value) return;
  printing.value = true;
  say(t("printing"));
  await drawn();
  // It returns when the dialog of the browser is closed.
  window.print();
  printing.value = false;
}

export function onPrintKey(event: KeyboardEvent): void {
  const wanted = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key === "p";
  if (!wanted) return;
  event.preventDefault();
  print();
}
