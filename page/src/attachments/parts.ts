// What was read of a file, in parts that a reader can choose from: pages, sheets, slides, or pieces of a long text.
import { tokensIn } from "../chat/fitting.ts";
import type { Page } from "../store/rows.ts";

// "" is a text that is in one piece. notes: a document's footnotes.
export type Unit = "" | "page" | "sheet" | "slide" | "piece" | "notes";

export interface Part {
  unit: Unit;
  // A sheet's or slide's own name, the lines of a piece; "" where the number says enough.
  name: string;
  text: string;
}

// Parts as they are stored and sent, with names that say what they are: `page 3`, `sheet Costs`, `lines 1-873`.
export function pagesOf(parts: readonly Part[]): Page[] {
  return parts.map(({ unit, name, text }, at) => ({ name: nameOf(unit, name, at + 1), text }));
}

function nameOf(unit: Unit, name: string, number: number): string {
  if (unit === "sheet") return `sheet ${name || number}`;
  if (unit === "piece" || !unit) return name;
  if (unit === "notes") return "notes";
  return name ? `${unit} ${number} ${name}` : `${unit} ${number}`;
}

// Of a picture, so many pixels make one token, as common models cut it.
const PIXELS_A_TOKEN = 784;

// Pages do not change: each is counted once.
const counted = new WeakMap<Page, number>();

export function tokensOfPage(page: Page): number {
  const found = counted.get(page) ?? tokensIn(page.text) + tokensIn(page.name);
  counted.set(page, found);
  return found;
}

export function tokensOfPicture(width: number, height: number): number {
  return Math.ceil((width * height) / PIXELS_A_TOKEN);
}

// --- Which parts are sent: "1-3, 7" counts from one, "" is all --------------------------------------------

// Which of `count` parts a text names, by their place from zero on; null for a text that names none, or says nothing.
export function chosen(text: string, count: number): number[] | null {
  if (!text.trim()) return Array.from({ length: count }, (_none, at) => at);
  const found = new Set<number>();
  for (const piece of text.split(/[,;\s]+/).filter(Boolean)) {
    const [, from = "", to] = /^(\d{1,6})(?:[-–](\d{1,6}))?$/.exec(piece) ?? [];
    if (!from) return null;
    const [first, last] = [Number(from), Math.min(Number(to ?? from), count)];
    for (let at = Math.max(first, 1); at <= last; at += 1) found.add(at - 1);
  }
  return found.size ? [...found].sort((one, other) => one - other) : null;
}

// The shortest text that names these places.
export function named(places: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const place of places) {
    const last = runs.at(-1);
    if (last && last[1] === place) last[1] = place + 1;
    else runs.push([place, place + 1]);
  }
  return runs.map(([from, to]) => (to - from > 1 ? `${from + 1}-${to}` : `${to}`)).join(", ");
}

// The first pages that have room in so many tokens; always at least one.
export function fitting(pages: readonly Page[], tokens: number): number[] {
  let used = 0;
  const places: number[] = [];
  for (const [at, page] of pages.entries()) {
    used += tokensOfPage(page);
    if (used > tokens && places.length) break;
    places.push(at);
  }
  return places;
}
