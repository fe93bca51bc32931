// What a reader can set of the answers, for one conversation or for all new ones: pure.
import { fields, type Settings } from "../store/rows.ts";

export type NumberField = "temperature" | "top_p" | "max_tokens" | "seed";

interface Bounds {
  least: number;
  most: number;
  whole: boolean;
}

// The bounds of OpenAI's API. A model may allow less, and says so when it is asked.
export const NUMBERS: Readonly<Record<NumberField, Bounds>> = {
  temperature: { least: 0, most: 2, whole: false },
  top_p: { least: 0, most: 1, whole: false },
  max_tokens: { least: 1, most: 10_000_000, whole: true },
  seed: { least: 0, most: 2 ** 31 - 1, whole: true },
};
export const NUMBER_FIELDS = Object.keys(NUMBERS) as NumberField[];
export const MOST_SYSTEM = 100_000;

export function isNumber(field: NumberField, value: unknown): value is number {
  const { least, most, whole } = NUMBERS[field];
  if (typeof value !== "number" || !(value >= least && value <= most)) return false;
  return !whole || Number.isInteger(value);
}

// What somebody typed into a field: a number, null for nothing, undefined for what is no value of the field.
export function readNumber(field: NumberField, typed: string): number | null | undefined {
  // In many countries a comma stands before the decimals.
  const text = typed.trim().replace(",", ".");
  if (!text) return null;
  const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  return isNumber(field, value) ? value : undefined;
}

// Whatever was stored or brought in, what comes out can be sent: what is out of bounds is left out.
export function usable(value: unknown): Settings {
  const row = fields(value);
  const made: Settings = {};
  if (typeof row.system === "string" && row.system.trim()) made.system = row.system.slice(0, MOST_SYSTEM);
  for (const field of NUMBER_FIELDS) {
    const found = row[field];
    if (isNumber(field, found)) made[field] = found;
  }
  if (typeof row.persona === "string" && row.persona) made.persona = row.persona;
  return made;
}

// What a later page has added to settings: it stays when they are changed.
export function later(settings: Settings | undefined): Partial<Settings> {
  const known = new Set<string>(["system", "persona", ...NUMBER_FIELDS]);
  return Object.fromEntries(Object.entries(settings ?? {}).filter(([name]) => !known.has(name)));
}

// Without what says only where the settings came from.
function bare({ persona: _, ...rest }: Settings): Settings {
  return usable(rest);
}

export function isNothing(settings: Settings): boolean {
  return !Object.keys(bare(settings)).length;
}

export function same(one: Settings, other: Settings): boolean {
  const [first, second] = [bare(one), bare(other)];
  return first.system === second.system && NUMBER_FIELDS.every((field) => first[field] === second[field]);
}

// The numbers as a request has them.
export function asked(settings: Settings): Partial<Record<NumberField, number>> {
  const { system: _, persona: __, ...numbers } = usable(settings);
  return numbers;
}

// Which setting a refusal names, as its `param`; "" for none of them.
export function refused(param: string): NumberField | "" {
  const name = param === "max_completion_tokens" ? "max_tokens" : param;
  return NUMBER_FIELDS.find((field) => field === name) ?? "";
}
