// Resolves when no word is being composed (Japanese, Chinese, …): to change the field in the middle of one writes it
// twice. The script that runs first notes it, because one may compose before this one has come (theme.ts).
export function composed(): Promise<void> {
  if (!document.documentElement.dataset.composing) return Promise.resolve();
  return new Promise((done) => {
    // Some browsers tell of the word itself after its end.
    document.addEventListener("compositionend", () => setTimeout(done), { once: true });
  });
}
