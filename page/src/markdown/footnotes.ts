// Footnotes: `[^name]` in a text, and `[^name]: …` on a line of its own. They are numbered in the order in which the text
// mentions them. The parts of a text are read one by one, so what a footnote says is found in the whole text first.
import type MarkdownIt from "markdown-it";
import { closes, fenceOf } from "./split.ts";

type Reader = InstanceType<typeof MarkdownIt>;
type InlineRule = Parameters<Reader["inline"]["ruler"]["before"]>[2];
type BlockRule = Parameters<Reader["block"]["ruler"]["before"]>[2];

export interface Footnote {
  name: string;
  text: string;
}

// By name.
export type Numbers = ReadonlyMap<string, number>;

const MOST = 500;
const MOST_LINES = 20;
const LONGEST = 3_000;
const BEGIN = /^ {0,3}\[\^([^\]\s\\]{1,60})\]:[ \t]{0,20}/;
const MENTIONS = /\[\^([^\]\s\\]{1,60})\](?!:)/g;
const MENTION = /\[\^([^\]\s\\]{1,60})\]/y;
const INDENTED = /^(?: {2,}|\t)[ \t]{0,40}\S/;

// All footnotes of a text, in the order of their numbers: those that the text mentions, then those that it does not.
export function footnotes(text: string): Footnote[] {
  if (!text.includes("[^")) return [];
  const lines = text.split("\n");
  const found = new Map<string, Footnote>();
  const mentioned = new Set<string>();
  let fence = "";
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? "";
    if (fence) {
      if (closes(line, fence)) fence = "";
      continue;
    }
    fence = fenceOf(line)?.marks ?? "";
    if (!fence && line.includes("[^")) {
      const note = definition((n) => lines[n], at);
      if (note && found.size < MOST && !found.has(note.name)) found.set(note.name, note);
      for (const one of line.matchAll(MENTIONS)) mentioned.add(one[1] ?? "");
    }
  }
  const names = new Set([...mentioned, ...found.keys()]);
  return [...names].flatMap((name) => found.get(name) ?? []);
}

export function numbers(notes: readonly Footnote[]): Numbers {
  return new Map(notes.map((note, at) => [note.name, at + 1]));
}

interface Definition extends Footnote {
  // How many lines it has.
  lines: number;
}

// The footnote that begins in line `at`, with the indented lines that belong to it; null for none.
function definition(line: (at: number) => string | undefined, at: number): Definition | null {
  const first = line(at) ?? "";
  const begin = BEGIN.exec(first);
  if (!begin || first.length > LONGEST) return null;
  const made = [first.slice(begin[0].length)];
  let size = first.length;
  let count = 1;
  for (let next = at + 1; next <= at + MOST_LINES; next += 1) {
    const text = line(next);
    if (text === undefined || (text.trim() && !INDENTED.test(text)) || size + text.length > LONGEST) break;
    size += text.length;
    // A blank line belongs to it when an indented one follows.
    if (!text.trim()) continue;
    while (made.length < next - at) made.push("");
    made.push(text.trim());
    count = next - at + 1;
  }
  return { name: begin[1] ?? "", text: made.join("\n"), lines: count };
}

function notesOf(environment: unknown): Numbers | undefined {
  return (environment as { notes?: Numbers }).notes;
}

const block: BlockRule = (state, from, to, silent) => {
  const known = notesOf(state.env);
  if (!known?.size || state.level || (state.sCount[from] ?? 0) >= 4) return false;
  const line = (at: number) => (at < to ? state.src.slice(state.bMarks[at], state.eMarks[at]) : undefined);
  const found = definition(line, from);
  if (!found || !known.has(found.name)) return false;
  if (!silent) state.line = from + found.lines;
  return true;
};

const inline: InlineRule = (state, silent) => {
  const known = notesOf(state.env);
  if (!known?.size || state.src.charCodeAt(state.pos) !== 0x5b) return false;
  MENTION.lastIndex = state.pos;
  const found = MENTION.exec(state.src);
  const number = found && known.get(found[1] ?? "");
  if (!found || !number || MENTION.lastIndex > state.posMax) return false;
  if (!silent) state.push("footnote", "", 0).meta = { number };
  state.pos += found[0].length;
  return true;
};

export function mentions(markdown: Reader): void {
  markdown.inline.ruler.before("link", "footnote", inline);
  markdown.block.ruler.before("reference", "footnote", block, { alt: ["paragraph", "reference"] });
}
