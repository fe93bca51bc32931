// Formulas in Markdown: `$…$`, `$$…$$`, `\(…\)`, `\[…\]`. What looks like money, a shell's variable or code is none.
import type MarkdownIt from "markdown-it";

type Reader = InstanceType<typeof MarkdownIt>;
type InlineRule = Parameters<Reader["inline"]["ruler"]["before"]>[2];
type BlockRule = Parameters<Reader["block"]["ruler"]["before"]>[2];

// A formula within a line, and one of its own lines, are no longer than this, in characters and in lines.
const LONGEST = 1_000;
const LONGEST_BLOCK = 5_000;
const MOST_LINES = 200;
const CLOSING: Record<string, string> = { $$: "$$", "\\(": "\\)", "\\[": "\\]" };
const OPENING = /^ {0,3}(\$\$|\\\[)/;

export interface Formula {
  tex: string;
  // On a line of its own.
  display: boolean;
  // Where the text goes on.
  end: number;
}

// The formula that begins at `at` and ends before `most`, or null.
export function formulaAt(text: string, at: number, most = text.length): Formula | null {
  const mark = text.slice(at, at + 2);
  const closing = CLOSING[mark];
  if (closing) return between(text, at, most, closing);
  return mark.startsWith("$") ? dollars(text, at, most) : null;
}

function between(text: string, at: number, most: number, closing: string): Formula | null {
  const found = text.slice(at + 2, Math.min(most, at + 2 + LONGEST)).indexOf(closing);
  if (found < 0) return null;
  const tex = text.slice(at + 2, at + 2 + found);
  return readable(tex) ? { tex: tex.trim(), display: closing !== "\\)", end: at + found + 4 } : null;
}

// "$5 and $10", "US$5", "$HOME/bin:$PATH" and "$5-$10" are no formulas: a formula's first mark has no word before it and no
// space behind it, its last no space before it and no word behind it ("$n$th" may be).
function dollars(text: string, at: number, most: number): Formula | null {
  if (/[A-Za-z0-9$]/.test(text[at - 1] ?? " ") || /[\s$]/.test(text[at + 1] ?? " ")) return null;
  const inner = text.slice(at + 1, Math.min(most, at + 1 + LONGEST));
  const found = /^(?:[^$\\`]|\\[^`])*\$/.exec(inner);
  if (!found) return null;
  const tex = found[0].slice(0, -1);
  const end = at + 1 + found[0].length;
  const follows = text.slice(end, Math.min(end + 3, most));
  if (
    /\s$/.test(tex) ||
    (/^[A-Za-z0-9$]/.test(follows) && !/^(?:st|nd|rd|th|s)(?![A-Za-z0-9])/.test(follows))
  )
    return null;
  return readable(tex) && !isProse(tex) ? { tex, display: false, end } : null;
}

function readable(tex: string): boolean {
  return tex.trim() !== "" && !tex.includes("`");
}

// "$5 for one and 3$": it begins with an amount, has words, and nothing that only formulas have.
function isProse(tex: string): boolean {
  return /^\d/.test(tex) && /[A-Za-z]{3}/.test(tex) && !/[\\^_={}]/.test(tex);
}

// What ends the formula that a line begins and does not end; "" for none.
export function openFormula(line: string): string {
  const mark = OPENING.exec(line)?.[1];
  const closing = (mark && CLOSING[mark]) || "";
  return closing && !line.includes(closing, line.indexOf(mark ?? "") + 2) ? closing : "";
}

const inline: InlineRule = (state, silent) => {
  const first = state.src.charCodeAt(state.pos);
  if (first !== 0x24 && first !== 0x5c) return false;
  const found = formulaAt(state.src, state.pos, state.posMax);
  if (!found) return false;
  if (!silent) {
    const token = state.push("formula", "", 0);
    token.content = found.tex;
    token.markup = found.display ? "$$" : "$";
  }
  state.pos = found.end;
  return true;
};

// A formula on lines of its own. Blank lines in it do not end it.
const block: BlockRule = (state, from, to, silent) => {
  if ((state.sCount[from] ?? 0) - state.blkIndent >= 4) return false;
  const line = (at: number) =>
    state.src.slice((state.bMarks[at] ?? 0) + (state.tShift[at] ?? 0), state.eMarks[at]);
  const closing = CLOSING[line(from).slice(0, 2)];
  if (!closing || closing === "\\)") return false;
  const made: string[] = [];
  let size = 0;
  for (let at = from; at < Math.min(to, from + MOST_LINES) && size < LONGEST_BLOCK; at += 1) {
    const text = at === from ? line(at).slice(2) : line(at);
    if (at > from && text && (state.sCount[at] ?? 0) < state.blkIndent) return false;
    const found = text.indexOf(closing);
    made.push(found < 0 ? text : text.slice(0, found));
    size += text.length;
    if (found < 0) continue;
    const tex = made.join("\n");
    if (text.slice(found + 2).trim() || !readable(tex)) return false;
    if (silent) return true;
    const token = state.push("formula", "", 0);
    token.block = true;
    token.content = tex.trim();
    token.markup = "$$";
    token.map = [from, at + 1];
    state.line = at + 1;
    return true;
  }
  return false;
};

export function formulas(markdown: Reader): void {
  markdown.inline.ruler.before("escape", "formula", inline);
  markdown.block.ruler.before("fence", "formula", block, {
    alt: ["paragraph", "reference", "blockquote", "list"],
  });
}
