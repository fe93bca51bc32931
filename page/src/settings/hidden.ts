// Characters that a reader does not see, or that turn the text around them: pure.

// Control characters except tab and line breaks; marks that change the direction of the text after them; tags and
// variation selectors beyond emoji's own, which can hide a whole text.
const HIDDEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e01ef}]/gu;

// The text with the code of each such character in its place, as in [U+202E].
export function visible(text: string): string {
  return text.replace(
    HIDDEN,
    (one) => `[U+${(one.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}]`,
  );
}

// How many such characters a text has.
export function hidden(text: string): number {
  return text.match(HIDDEN)?.length ?? 0;
}

// The text without them.
export function bare(text: string): string {
  return text.replace(HIDDEN, "");
}
