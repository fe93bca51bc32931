// How long an answer has to be waited for, as far as it is known: pure. Times are milliseconds since the epoch.
export interface Wait {
  since: number;
  // The place in the queue; 0 where the gateway has named none.
  position: number;
  // When the answer should begin; 0 where nobody knows.
  until: number;
  // An instance has the question and has not written yet.
  reading: boolean;
}

// What is left, in seconds, at which somebody who does not see the page is told again.
const STEPS = [600, 300, 120, 60, 30, 10];

// A question was sent. `ready`: when its model should be ready; 0 where it is, or where nobody knows.
export function sent(now: number, ready = 0): Wait {
  return { since: now, position: 0, until: ready > now ? ready : 0, reading: false };
}

// What the gateway says meanwhile: `queued position=3 expected=42s`, `working`. Anything else changes nothing.
export function told(wait: Wait, note: string, now: number): Wait {
  if (note === "working") return { ...wait, position: 0, until: 0, reading: true };
  const found = /^queued position=(\d{1,9})(?: expected=(\d{1,9})s)?$/.exec(note);
  if (!found) return wait;
  const until = found[2] === undefined ? 0 : now + Number(found[2]) * 1000;
  return { ...wait, position: Number(found[1]), until, reading: false };
}

// Seconds until it should begin, 0 when that time has passed; null where nobody knows.
export function left(wait: Wait, now: number): number | null {
  return wait.until ? Math.max(0, Math.ceil((wait.until - now) / 1000)) : null;
}

export function waited(wait: Wait, now: number): number {
  return Math.max(0, Math.floor((now - wait.since) / 1000));
}

// Two moments with the same piece are told once: a count that goes down is no news each second.
export function piece(wait: Wait, now: number): string {
  const seconds = left(wait, now);
  const step = seconds === null ? "" : STEPS.filter((one) => seconds <= one).length;
  return `${wait.reading ? "reading" : wait.position} ${step} ${seconds === 0 ? "over" : ""}`;
}
