// A conversation's title as the page makes it.
const TITLE_LENGTH = 60;

// The first words.
export function titleFrom(text: string): string {
  const words = text
    .slice(0, 4 * TITLE_LENGTH)
    .replace(/\s+/g, " ")
    .trim();
  if (words.length <= TITLE_LENGTH) return words;
  // Whole words, where they are not too long, and no half of a sign.
  const cut = words.lastIndexOf(" ", TITLE_LENGTH);
  return `${words
    .slice(0, cut > TITLE_LENGTH / 2 ? cut : TITLE_LENGTH - 1)
    .replace(/[\ud800-\udbff]$/, "")
    .trimEnd()}…`;
}

// What a model says when it is asked for a title: one line, without the marks that models put around it.
export function cleaned(given: string): string {
  const said = given.replace(/<think>[\s\S]*?(?:<\/think>|$)/, "");
  const line = said.split("\n").find((one) => one.trim()) ?? "";
  const plain = line.replace(/^[\s#*"'“”„«»]+|[\s*"'“”„«».]+$/g, "").replace(/^(?:title|titel)\s*:\s*/i, "");
  return [...plain].slice(0, TITLE_LENGTH).join("").trim();
}
