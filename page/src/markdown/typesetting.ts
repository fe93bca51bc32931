// KaTeX, with bounds. It makes elements, never HTML. This file is loaded with the first formula.
import katex, { type KatexOptions } from "katex";

// The longest formula: in characters, of which each cell of a table and each mark above or below a letter counts as more.
const LONGEST = 2_500;
const COST = 4;
const COSTLY = /&|\p{M}/gu;
// So deep may braces, brackets and tables be within each other: each is measured with all that is in it.
const DEEPEST = 60;
const LEVELS = /[{}]|\\(?:left|right|begin|end)(?![A-Za-z])/g;
// A formula that defines commands multiplies what it says: it may be so long, and expand so often.
const LONGEST_DEFINING = 200;
const FEW_EXPANSIONS = 40;
const EXPANSIONS = 500;
// In em.
const LARGEST = 20;
const DEFINES = /\\(?:[gex]?def|let|futurelet|global|long|(?:re)?newcommand|providecommand)(?![A-Za-z])/;

// How a formula is read; null for one that is too long or too deep.
export function settings(tex: string, displayMode: boolean): KatexOptions | null {
  const defines = DEFINES.test(tex);
  const most = defines ? LONGEST_DEFINING : LONGEST;
  if (tex.length > most || tex.length + COST * (tex.match(COSTLY)?.length ?? 0) > most) return null;
  if (depth(tex) > DEEPEST) return null;
  return {
    displayMode,
    throwOnError: true,
    trust: false,
    strict: "ignore",
    output: "htmlAndMathml",
    maxSize: LARGEST,
    maxExpand: defines ? FEW_EXPANSIONS : EXPANSIONS,
  };
}

function depth(tex: string): number {
  let now = 0;
  let most = 0;
  for (const [level] of tex.matchAll(LEVELS)) {
    now += level === "}" || level === "\\right" || level === "\\end" ? -1 : 1;
    most = Math.max(most, now);
  }
  return most;
}

// Draws a formula into an empty element. Returns false, and leaves nothing there, when it cannot be read or is too long.
export function typeset(place: HTMLElement, tex: string, displayMode: boolean): boolean {
  const read = settings(tex, displayMode);
  if (!read) return false;
  try {
    katex.render(tex, place, read);
    return true;
  } catch {
    place.replaceChildren();
    return false;
  }
}
