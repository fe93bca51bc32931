// How words are found in a text.

// So many characters are shown around what was found.
const AROUND = 40;

// As it is compared, without capitals and accents: who types "resume" finds "Résumé".
export function folded(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/\p{Mn}/gu, "")
    .toLowerCase();
}

// Where the words are in a text, with what stands around them; "" for nowhere.
export function placeIn(text: string, words: string): string {
  const plain = folded(text);
  const at = plain.indexOf(words);
  if (at < 0) return "";
  // Of most texts the two are equally long; of others this is near enough.
  const shown = plain.length === text.length ? text : plain;
  const from = Math.max(0, at - AROUND);
  const to = at + words.length + AROUND;
  const middle = shown.slice(from, to).replace(/\s+/g, " ").trim();
  return `${from ? "…" : ""}${middle}${to < shown.length ? "…" : ""}`;
}
