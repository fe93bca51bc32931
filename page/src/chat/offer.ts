// The models that a list offers for what somebody types: pure.
import type { Model } from "../api/api.ts";
import { folded } from "../store/finding.ts";

// Models that have each word of what is typed, the site's own before those that run elsewhere. `words` gives what a
// model's entry in the list says beside its name.
export function matching(
  models: readonly Model[],
  typed: string,
  words: (model: Model) => string = (model) => model.description ?? "",
): Model[] {
  const wanted = folded(typed).split(/\s+/).filter(Boolean);
  const found = models.filter((one) => {
    const text = folded(`${one.id} ${words(one)}`);
    return wanted.every((word) => text.includes(word));
  });
  return [...found.filter((one) => !one.external), ...found.filter((one) => one.external)];
}

// Which entry the arrow keys go to: at the ends of the list it begins anew.
export function step(at: number, by: number, length: number): number {
  if (!length) return -1;
  if (at < 0) return by > 0 ? 0 : length - 1;
  const next = at + by;
  // A page at a time stops at the ends first.
  if (Math.abs(by) > 1) return Math.min(Math.max(next, 0), length - 1);
  return (next + length) % length;
}
