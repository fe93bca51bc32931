// The models that are offered, with their live state, and which one is chosen.
import { computed, signal } from "@preact/signals";
import { ApiError, listModels, type Model } from "../api/api.ts";
import { scoped } from "../site.ts";
import { t } from "../texts.ts";
import { stateText } from "../waits.ts";
import { change, current, find } from "./library.ts";

const KEY = scoped("sluice-model");
const POLL_READY = 15_000;
const POLL_CHANGING = 4_000;

export const models = signal<readonly Model[]>([]);
export const reachable = signal(true);
// The session has ended.
export const signedOut = signal(false);
const preferred = signal(stored());

// The model of this name, as far as it is offered.
export function named(name: string): Model | undefined {
  return models.value.find((one) => one.id === name);
}

export const model = computed<Model | undefined>(() => {
  const wanted = [find(current.value)?.model, preferred.value];
  const offered = models.value;
  const found = wanted.map((name) => named(name ?? "")).find(Boolean);
  return found ?? offered.find((one) => one.status === "ready") ?? offered[0];
});

function stored(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

// The conversation on view remembers its model; a new one begins with what was chosen last.
export function choose(name: string): void {
  preferred.value = name;
  if (current.value) change(current.value, { model: name });
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // It is remembered as long as the page lasts.
  }
}

let timer = 0;

export async function refresh(): Promise<void> {
  clearTimeout(timer);
  try {
    models.value = (await listModels()).filter((one) => (one.capabilities ?? ["chat"]).includes("chat"));
    reachable.value = true;
    signedOut.value = false;
  } catch (error) {
    signedOut.value = error instanceof ApiError && error.code === "signed_out";
    reachable.value = signedOut.value;
  }
  const wait = model.value?.status === "ready" ? POLL_READY : POLL_CHANGING;
  if (!document.hidden) timer = window.setTimeout(refresh, wait);
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());

export function stateOf(one: Model | undefined): string {
  return reachable.value && one ? one.status : "unknown";
}

export function statusText(one: Model | undefined): string {
  if (!reachable.value) return t("models_unreachable");
  if (!one) return t("no_models");
  return stateText(one);
}

// A time that is counted down, to the second where it is short.
export function clock(seconds: number): string {
  if (seconds < 60) return t("seconds", { n: seconds });
  const minutes = t("minutes", { n: Math.floor(seconds / 60) });
  return seconds < 600 && seconds % 60 ? `${minutes} ${t("seconds", { n: seconds % 60 })}` : minutes;
}
