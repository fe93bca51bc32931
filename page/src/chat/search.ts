// The search in titles and texts. Titles are in memory and come at once. Texts are read from the disk in pieces, between
// which the browser gets its turn.
import { computed, signal } from "@preact/signals";
import { folded, placeIn } from "../store/finding.ts";
import type { Message } from "../store/rows.ts";
import { conversations, inMemory, stored } from "./library.ts";

// How long one may go on before the browser gets its turn, in milliseconds.
const TURN = 12;
// Text is looked through in pieces of so many characters.
const PIECE = 50_000;
// So many messages are read at once at first; fewer where they are long.
const BATCH = 64;
const WAIT = 150;

export const query = signal("");
export const searching = signal(false);
// Conversations with the words in their texts, each with the place.
export const places = signal<ReadonlyMap<string, string>>(new Map());

export const wanted = computed(() => folded(query.value.trim()));

// Of each title once, however often the places change.
const titles = computed(() => new Map(conversations.value.map((row) => [row.id, folded(row.title)])));

export const found = computed(() => {
  if (!wanted.value) return conversations.value;
  return conversations.value.filter(
    (row) => places.value.has(row.id) || titles.value.get(row.id)?.includes(wanted.value),
  );
});

let running = new AbortController();
let timer = 0;

export function search(text: string): void {
  query.value = text;
  running.abort();
  clearTimeout(timer);
  places.value = new Map();
  searching.value = wanted.value !== "";
  if (!wanted.value) return;
  running = new AbortController();
  const { signal: stop } = running;
  timer = window.setTimeout(() => through(wanted.value, stop), WAIT);
}

async function through(words: string, stop: AbortSignal): Promise<void> {
  const looking = new Looking(words, stop);
  try {
    for (const message of inMemory()) await looking.at(message);
    let last = "";
    for (let size = BATCH; !stop.aborted; ) {
      const began = performance.now();
      const rows = await stored((disk) => disk.messagesAfter(last, size), []);
      for (const row of rows) await looking.at(row);
      last = rows.at(-1)?.id ?? "";
      if (!last) break;
      size = performance.now() - began > 2 * TURN ? Math.max(1, size >> 1) : Math.min(512, size * 2);
    }
  } finally {
    looking.show();
    if (!stop.aborted) searching.value = false;
  }
}

class Looking {
  readonly #words: string;
  readonly #stop: AbortSignal;
  readonly #found = new Map<string, string>();
  #turn = performance.now();

  constructor(words: string, stop: AbortSignal) {
    this.#words = words;
    this.#stop = stop;
  }

  async at(message: Message): Promise<void> {
    const { conversation, content } = message;
    if (this.#found.has(conversation)) return;
    for (let from = 0; from < content.length && !this.#stop.aborted; from += PIECE) {
      // What begins in one piece may end in the next.
      const place = placeIn(content.slice(from, from + PIECE + this.#words.length), this.#words);
      if (place) this.#found.set(conversation, place);
      if (performance.now() - this.#turn > TURN) {
        this.show();
        await new Promise((resolve) => setTimeout(resolve));
        this.#turn = performance.now();
      }
      if (place) return;
    }
  }

  show(): void {
    if (!this.#stop.aborted && this.#found.size !== places.value.size) places.value = new Map(this.#found);
  }
}
