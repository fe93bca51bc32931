// How much text is made into elements before the browser gets its turn. It is counted in characters, of which a part
// has a bounded number: the browser then never waits long, however much there is to show.
import { signal } from "@preact/signals";

export const CHARACTERS_A_TURN = 24_000;

let left = CHARACTERS_A_TURN;
let turning = false;
const waiting: (() => void)[] = [];

// Whether a part of so many characters may be made now; if not, `later` calls back when one may.
export function take(size: number): boolean {
  nextTurn();
  if (left <= 0 || waiting.length) return false;
  left -= size;
  return true;
}

function nextTurn(): void {
  if (turning) return;
  turning = true;
  // A timer lets the browser paint and take input before it goes on.
  setTimeout(() => {
    turning = false;
    left = CHARACTERS_A_TURN;
    while (left > 0 && waiting.length) waiting.shift()?.();
    if (waiting.length) nextTurn();
  });
}

// A signal that becomes true when a part of so many characters may be made.
export function turnFor(size: number) {
  const ready = signal(take(size));
  if (!ready.value) {
    waiting.push(() => {
      left -= size;
      ready.value = true;
    });
  }
  return ready;
}
