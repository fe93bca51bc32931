import { scoped } from "../site.ts";

// A lock for each answer that is under way, held by the page that gets it, for other tabs to see. It ends with the page.
export function lockName(message: string): string {
  return scoped(`sluice-answer-${message}`);
}

// Holds the lock of an answer and returns what lets go of it.
export function hold(message: string): Promise<() => void> {
  return new Promise((held) => {
    if (!navigator.locks) {
      held(() => {});
      return;
    }
    navigator.locks
      .request(lockName(message), () => new Promise<void>((release) => held(release)))
      .catch(() => held(() => {}));
  });
}
