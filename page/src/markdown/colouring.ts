// The worker that finds the words of code. It is ended when a code takes too long: the page never waits for it.
import { words } from "./languages.ts";

addEventListener("message", ({ data }: MessageEvent<{ code: string; language: string }>) => {
  postMessage(words(data.code, data.language));
});
