// Personas: the site's, which the page asks for when somebody first looks, and the reader's own.
import { computed, signal } from "@preact/signals";
import { usable } from "../settings/fields.ts";
import { at } from "../site.ts";
import type { Persona } from "../store/rows.ts";
import { named } from "./models.ts";
import { personas } from "./shelves.ts";
import { setOwn } from "./tuning.ts";

const SITE = "site:";

export interface SitePersona extends Persona {
  // The model that it was made for; "" for none.
  model: string;
}

export const ofSite = signal<readonly SitePersona[]>([]);
// unasked, then asked, then here; failed: it is asked again at the next look.
export const siteState = signal<"unasked" | "asked" | "here" | "failed">("unasked");

export async function wantSite(): Promise<void> {
  if (siteState.value === "asked" || siteState.value === "here") return;
  siteState.value = "asked";
  try {
    const answer = await fetch(at("/personas"), {
      headers: { Accept: "application/json" },
      redirect: "error",
    });
    if (!answer.ok) throw new Error(String(answer.status));
    const document: { personas: Record<string, unknown>[] } = await answer.json();
    ofSite.value = document.personas.map((one) => ({
      id: `${SITE}${one.name}`,
      name: String(one.name),
      description: String(one.description ?? ""),
      settings: usable(one),
      model: String(one.model ?? ""),
      created: 0,
    }));
    siteState.value = "here";
  } catch {
    siteState.value = "failed";
  }
}

export const all = computed<readonly Persona[]>(() => [...ofSite.value, ...personas.value]);

// The name of a persona that settings came from; "" where it is gone. The site's have theirs in their id.
export function nameOf(id: string | undefined): string {
  if (!id) return "";
  const found = all.value.find((one) => one.id === id);
  return found?.name ?? (id.startsWith(SITE) ? id.slice(SITE.length) : "");
}

// The model that a persona was made for, where it is offered and another one is chosen; it is never switched without
// being asked for.
export const suggested = signal("");

export function apply(conversation: string, persona: Persona | undefined, chosen: string): void {
  setOwn(conversation, persona ? { ...persona.settings, persona: persona.id } : {});
  const model = persona && "model" in persona ? (persona as SitePersona).model : "";
  suggested.value = model !== chosen && named(model) ? model : "";
}
