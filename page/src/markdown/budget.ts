// How much text is made into elements before the browser gets its turn. It is counted in characters and lines, of which
// a part has a bounded number: the browser then never waits long, however much there is to show.
import { signal } from "@preact/signals";

export const CHARACTERS_A_TURN = 12_000;

const CHARACTERS_A_LINE = 20;
const CHARACTERS_A_CELL = 12;

// What a part costs: a line may become elements, and so may each cell of a table.
function costOf(text: string): number {
  return text.length + CHARACTERS_A_LINE * (1 + count(text, "\n")) + CHARACTERS_A_CELL * count(text, "|");
}

function count(text: string, sign: string): number {
  let found = 0;
  for (let at = text.indexOf(sign); at >= 0; at = text.indexOf(sign, at + 1)) found += 1;
  return found;
}

let left = CHARACTERS_A_TURN;
let turning = false;
const waiting: (() => void)[] = [];

// Whether a part of this cost may be made now.
function take(size: number): boolean {
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

// A signal that becomes true when a part with this text may be made.
export function turnFor(text: string) {
  return turn(costOf(text));
}

// The same for what costs as much as so many characters.
export function turn(size: number) {
  const ready = signal(take(size));
  if (!ready.value) {
    waiting.push(() => {
      left -= size;
      ready.value = true;
    });
  }
  return ready;
}
