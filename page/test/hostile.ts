// Texts made to slow a reader down, each of about so many characters.
const repeated = (unit: string) => (size: number) => unit.repeat(Math.ceil(size / unit.length));

export const HOSTILE: Record<string, (size: number) => string> = {
  "a heading with spaces": (size) => `# a${" ".repeat(size)}b`,
  "a heading with marks": (size) => `# ${"#".repeat(size)}x`,
  "a fence with spaces": (size) => `\`\`\`${" ".repeat(size)}\``,
  "a rule that is none": (size) => `${"- ".repeat(size / 2)}x`,
  "spaces alone": (size) => `a${" ".repeat(size)}b`,
  "one line": repeated("a"),
  "one line of words": repeated("word "),
  "nested lists": (size) => {
    const lines: string[] = [];
    for (let depth = 0, sum = 0; sum < size; depth += 1, sum += 2 * depth) {
      lines.push(`${"  ".repeat(depth)}- a`);
    }
    return lines.join("\n");
  },
  "nested lists in one line": repeated("- "),
  "nested quotes": repeated("> "),
  "many items": repeated("- a\n"),
  "many numbered items": repeated("1. a\n"),
  "many loose items": repeated("- a\n\n"),
  "many headings": repeated("# a\n"),
  "many quotes": repeated("> a\n"),
  "many lines": repeated("a\n"),
  "many paragraphs": repeated("a\n\n"),
  "many rules": repeated("---\n"),
  "many rows": (size) => `|a|b|\n|-|-|\n${"|1|2|\n".repeat(size / 6)}`,
  "a wide table": (size) => `${"|a".repeat(size / 4)}|\n${"|-".repeat(size / 4)}|\n`,
  stars: repeated("*"),
  "stars and letters": repeated("*a "),
  "strong and plain": repeated("a**b"),
  "all marks": repeated("a***b*** __c__ "),
  underlines: repeated("_a"),
  tildes: repeated("~~a"),
  backticks: repeated("`"),
  "backticks of all lengths": repeated("`a``b```c````"),
  brackets: repeated("["),
  "closing brackets": repeated("]"),
  "links without an end": repeated("[a]("),
  "pictures without an end": repeated("!["),
  "links with brackets": repeated("[a](b("),
  "names without an address": repeated("[a]: b\n"),
  "names of names": repeated("[[a]"),
  backslashes: repeated("\\"),
  ampersands: repeated("&"),
  entities: repeated("&amp;"),
  "angle brackets": repeated("<"),
  addresses: repeated("<http://a"),
  "bare addresses": repeated("http://a."),
  "one address": (size) => `http://${"a".repeat(size)}`,
  "an address that ends in signs": (size) => `http://a${"...)".repeat(size / 4)}`,
  quotes: repeated("\"a'"),
  "tables in a line": repeated("|-"),
  newlines: repeated("\n"),
  "spaces and newlines": repeated("  \n"),
  tabs: repeated("\t"),
  fences: repeated("```\n"),
  "a fence that never ends": (size) => `\`\`\`js\n${"x = 1;\n".repeat(size / 7)}`,
  "code of one line": (size) => `\`\`\`\n${"x".repeat(size)}\n\`\`\``,
  "fences within items": repeated("- ```\n"),
  "right to left": repeated("\u202e\u2066a"),
  "marks over letters": repeated("a\u0301\u0302\u0303"),
  "zero bytes": repeated("\0"),
  "10,000 rows": (size) => `|a|b|c|\n|-|:-:|-:|\n${"|1|**2**|$3$|\n".repeat(Math.min(10_000, size / 14))}`,
  "rows that lack cells": (size) => `${"|a".repeat(400)}|\n${"|-".repeat(400)}|\n${"|\n".repeat(size / 2)}`,
  "small formulas": repeated("$x$ "),
  "formulas side by side": repeated("$x$"),
  dollars: repeated("$"),
  "dollars and letters": repeated("$a "),
  "escaped dollars": (size) => `$${"\\$".repeat(size / 2)}`,
  "formulas without an end": repeated("\\("),
  "long formulas without an end": repeated("\\[a"),
  "blocks of formulas": repeated("$$\na\n$$\n"),
  "blocks without an end": repeated("\\[\n"),
  "double dollars in lines": repeated("$$ a\n"),
  "mentions of footnotes": (size) => `${"[^1]".repeat(size / 4)}\n\n[^1]: a`,
  "mentions of none": repeated("[^a"),
  "many footnotes": (size) =>
    Array.from({ length: size / 14 }, (_one, at) => `[^${at}] \n\n[^${at}]: a\n`).join(""),
  "long footnotes": repeated(`[^1]: ${"a\n  ".repeat(200)}\n`),
  "names of footnotes": repeated("[^1]:"),
  diagrams: repeated("```mermaid\ngraph TD\nA-->B\n```\n"),
  "a diagram that never ends": (size) => `\`\`\`mermaid\n${"A-->B\n".repeat(size / 6)}`,
  "code of many languages": repeated("```c++\nint x;\n```\n```py\nx = 1\n```\n"),
};

const UNITS = [
  ..."*_`~[]()!<>&|#-+.:\\\n \t1a",
  ...["\n\n", "- ", "1. ", "```", "> ", "# ", "| - |", "https://a.example", "[a]: https://b\n", "😀", "    "],
  ...["$", "$$", "\\(", "\\)", "\\[", "\\]", "[^1]", "\n[^1]: a"],
];

// Text of marks in a random order; the same seed gives the same text.
export function randomMarkdown(seed: number, size: number): string {
  let state = seed;
  const made: string[] = [];
  for (let length = 0; length < size; ) {
    // A linear congruential generator: Numerical Recipes' constants.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const unit = UNITS[(state >>> 8) % UNITS.length] ?? "a";
    const times = state % 97 === 0 ? 40 : 1;
    made.push(unit.repeat(times));
    length += unit.length * times;
  }
  return made.join("");
}
