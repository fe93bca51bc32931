// How models are asked: what the reader has set for a conversation, and for all of them.
import { computed, signal } from "@preact/signals";
import { later, usable } from "../settings/fields.ts";
import type { Settings } from "../store/rows.ts";
import * as library from "./library.ts";
import { set, settings } from "./shelves.ts";

const DEFAULTS = "defaults";

// What is set for the conversation that has not begun.
const fresh = signal<Settings>({});

export const defaults = computed(() => usable(settings.value.get(DEFAULTS)));

// What a conversation has of its own; "" for one that has not begun.
export function ownOf(conversation: string): Settings {
  return usable(conversation ? library.find(conversation)?.settings : fresh.value);
}

export function setOwn(conversation: string, changed: Settings): void {
  const before = library.find(conversation)?.settings;
  if (conversation) library.change(conversation, { settings: { ...later(before), ...changed } });
  else fresh.value = changed;
}

export function setDefaults(changed: Settings): void {
  set(DEFAULTS, Object.keys(changed).length ? changed : undefined);
}

// With what a conversation is asked.
export function effective(conversation: string): Settings {
  return { ...defaults.value, ...ownOf(conversation) };
}

// What was set for a conversation that begins now; the next one begins without it.
export function begins(): Settings {
  const found = fresh.value;
  fresh.value = {};
  return found;
}
