// Emphasis in languages without spaces. CommonMark takes `**` beside punctuation for a mark only where a space or
// punctuation is on its other side: in `これは**「重要」**な点` and `**注意：**本文` none is, and the signs stay to be seen.
// Here a letter of these languages counts as such a place, and their punctuation as a letter.
import type MarkdownIt from "markdown-it";

type State = InstanceType<InstanceType<typeof MarkdownIt>["inline"]["State"]>;
type Scanned = ReturnType<State["scanDelims"]>;

const WRITTEN =
  "\\p{scx=Han}\\p{scx=Hiragana}\\p{scx=Katakana}\\p{scx=Bopomofo}\\p{scx=Hangul}\\u3001-\\u303f\\uff01-\\uffee";
const ENDS = new RegExp(`[${WRITTEN}]$`, "u");
const BEGINS = new RegExp(`^[${WRITTEN}]`, "u");
const SPACE_ENDS = /(?:^|\s)$/;
const SPACE_BEGINS = /^(?:\s|$)/;
const PUNCTUATION_ENDS = /[\p{P}\p{S}]$/u;
const PUNCTUATION_BEGINS = /^[\p{P}\p{S}]/u;

// Whether a mark between these may begin and may end emphasis; null where CommonMark says it.
function beside(before: string, after: string): { begins: boolean; ends: boolean } | null {
  const written = { before: ENDS.test(before), after: BEGINS.test(after) };
  if (!written.before && !written.after) return null;
  const space = { before: SPACE_ENDS.test(before), after: SPACE_BEGINS.test(after) };
  const sign = { before: PUNCTUATION_ENDS.test(before), after: PUNCTUATION_BEGINS.test(after) };
  const free = {
    before: space.before || sign.before || written.before,
    after: space.after || sign.after || written.after,
  };
  return {
    begins: !space.after && (!sign.after || written.after || free.before),
    ends: !space.before && (!sign.before || written.before || free.after),
  };
}

export function emphasis(markdown: InstanceType<typeof MarkdownIt>): void {
  const Plain = markdown.inline.State;
  markdown.inline.State = class extends Plain {
    // `_` within a word is none, in any language.
    override scanDelims(start: number, withinWords: boolean): Scanned {
      const scanned = super.scanDelims(start, withinWords);
      if (!withinWords) return scanned;
      const end = start + scanned.length;
      // Two units: a letter may be a pair.
      const found = beside(this.src.slice(Math.max(0, start - 2), start), this.src.slice(end, end + 2));
      return found ? { ...scanned, can_open: found.begins, can_close: found.ends } : scanned;
    }
  };
}
