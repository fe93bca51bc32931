// A model's state and the wait that it means, in words.
import type { Model } from "./api/api.ts";
import { t, tOf } from "./texts.ts";

// Rounded so that a waiting person is not told a new number at every poll.
export function duration(seconds: number): string {
  if (seconds > 90) return t("minutes", { n: Math.ceil(seconds / 60) });
  return t("seconds", { n: Math.max(5, Math.ceil(seconds / 5) * 5) });
}

export function stateText(one: Model): string {
  const seconds = one.expected_ready ? one.expected_ready - Date.now() / 1000 : 0;
  if (one.status === "starting" && seconds > 0) return t("status_starting_eta", { time: duration(seconds) });
  if (one.status === "sleeping" && seconds > 0) return t("status_sleeping_eta", { time: duration(seconds) });
  return tOf(`status_${one.status}`, "status_unknown");
}
