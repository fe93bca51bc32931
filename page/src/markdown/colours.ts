// Asks the worker for the words of code (colouring.ts), one code after the other. What takes too long stays plain.
import { startWorker } from "../attachments/policy.ts";
import type { Word } from "./languages.ts";

// In milliseconds. Code as people write it takes a hundredth.
const LONGEST = 3_000;
// After so many codes that took too long, all stays plain until the page is opened again.
const MOST_FAILURES = 5;
// Longer code stays plain, in characters.
export const LONGEST_CODE = 20_000;

let worker: Worker | null = null;
let failures = 0;
let last: Promise<unknown> = Promise.resolve();

// The words of code, in order; null for code that stays plain.
export function wordsOf(code: string, language: string): Promise<Word[] | null> {
  if (code.length > LONGEST_CODE) return Promise.resolve(null);
  const found = last.then(() => (failures < MOST_FAILURES ? ask(code, language) : null));
  last = found.catch(() => {});
  return found;
}

function ask(code: string, language: string): Promise<Word[] | null> {
  try {
    worker ??= startWorker("colouring");
  } catch {
    // Where no worker may start, all code stays plain.
    failures = MOST_FAILURES;
    return Promise.resolve(null);
  }
  const asked = worker;
  return new Promise((resolve) => {
    const fail = () => {
      failures += 1;
      asked.terminate();
      worker = null;
      done(null);
    };
    const timer = setTimeout(fail, LONGEST);
    const done = (words: Word[] | null) => {
      clearTimeout(timer);
      resolve(words);
    };
    asked.onmessage = (event: MessageEvent<Word[] | null>) => done(event.data);
    asked.onerror = fail;
    asked.postMessage({ code, language });
  });
}
