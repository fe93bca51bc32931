// The words of the page, in the language that the server chose.
import type known from "../../files/sluice/src/sluice/web/words/texts/en.json";

type OfScripts<Key> = Key extends `js.${infer Name}` ? Name : never;
export type TextKey = OfScripts<keyof typeof known>;
export type Values = Record<string, string | number>;

const texts: Record<string, string> = JSON.parse(document.getElementById("texts")?.textContent ?? "{}");

export function t(key: TextKey, values: Values = {}): string {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_whole, name: string) => String(values[name]));
}

// For what is put together while running, such as a model's state; `otherwise` where there is no such text.
export function tOf(key: string, otherwise: TextKey): string {
  return texts[key] ?? t(otherwise);
}
