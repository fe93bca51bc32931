// A link that carries settings and never a conversation: in the part of an address that no server sees. Pure.
import { LINK_MARK } from "../site.ts";
import type { Settings } from "../store/rows.ts";
import { isNothing, isNumber, MOST_SYSTEM, NUMBER_FIELDS } from "./fields.ts";
import { visible } from "./hidden.ts";

const MOST_LINK = 16_000;
export const MODEL = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/;

export interface Linked {
  settings: Settings;
  // "" where the link names none.
  model: string;
}

export function isLink(hash: string): boolean {
  return hash.startsWith(LINK_MARK);
}

export function link(base: string, { settings, model }: Linked): string {
  const said = new URLSearchParams();
  if (model) said.set("model", model);
  if (settings.system) said.set("system", settings.system);
  for (const field of NUMBER_FIELDS) {
    const value = settings[field];
    if (value !== undefined) said.set(field, String(value));
  }
  return `${base}${LINK_MARK}${said}`;
}

// Whether the settings fit a link: some programs cut long addresses.
export function fits(address: string): boolean {
  return address.length <= MOST_LINK;
}

// What a link carries; null for one that carries anything else: it is refused whole.
export function readLink(hash: string): Linked | null {
  if (!isLink(hash) || !fits(hash)) return null;
  const said = new URLSearchParams(hash.slice(LINK_MARK.length));
  const names = [...said.keys()];
  if (new Set(names).size !== names.length) return null;
  const linked: Linked = { settings: {}, model: "" };
  for (const [name, value] of said) if (!put(linked, name, value)) return null;
  return isNothing(linked.settings) && !linked.model ? null : linked;
}

function put(linked: Linked, name: string, value: string): boolean {
  const field = NUMBER_FIELDS.find((one) => one === name);
  if (field) {
    const number = value.trim() ? Number(value) : Number.NaN;
    linked.settings[field] = number;
    return isNumber(field, number);
  }
  if (name === "model") {
    linked.model = value;
    return MODEL.test(value);
  }
  // Nothing is hidden from the reader who is asked.
  linked.settings.system = visible(value);
  return name === "system" && value.length <= MOST_SYSTEM;
}
