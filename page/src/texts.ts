// The words of the page, in the language that the server chose.
import type known from "../../files/sluice/src/sluice/web/words/texts/en.json";
import { locale, number } from "./formats.ts";

type OfScripts<Key> = Key extends `js.${infer Name}` ? Name : never;
export type TextKey = OfScripts<keyof typeof known>;
export type Values = Record<string, string | number>;

// Where words depend on a number: the language's plural forms, and the placeholder whose number decides.
type Forms = { by: string } & Partial<Record<Intl.LDMLPluralRule, string>>;

declare global {
  // The build gives each language's to the script that runs first.
  var sluiceTexts: Record<string, string | Forms> | undefined;
}
const texts = globalThis.sluiceTexts ?? {};
let plurals: Intl.PluralRules | undefined;

function form(text: Forms, values: Values): string {
  plurals ??= new Intl.PluralRules(locale);
  return text[plurals.select(Number(values[text.by]))] ?? text.other ?? "";
}

// Letters that are written from right to left, and marks that turn what follows them.
const TURNING = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/;
const [FIRST_STRONG_ISOLATE, POP_DIRECTIONAL_ISOLATE] = ["\u2068", "\u2069"];

// A title or a name in a sentence changes no direction but its own.
function isolated(value: string): string {
  return TURNING.test(value) ? FIRST_STRONG_ISOLATE + value + POP_DIRECTIONAL_ISOLATE : value;
}

function filled(text: string | Forms, values: Values): string {
  const words = typeof text === "string" ? text : form(text, values);
  return words.replace(/\{(\w+)\}/g, (_whole, name: string) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : isolated(String(value));
  });
}

export function t(key: TextKey, values: Values = {}): string {
  return filled(texts[key] ?? key, values);
}

// For what is put together while running, such as a model's state; `otherwise` where there is no such text.
export function tOf(key: string, otherwise: TextKey): string {
  return filled(texts[key] ?? texts[otherwise] ?? otherwise, {});
}

// The words for a name that another part chose; the name itself where there are none.
export function called(family: string, name: string): string {
  const found = texts[`${family}_${name}`];
  return found === undefined ? name : filled(found, {});
}
