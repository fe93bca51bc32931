// Personas and prompts as a file: what one reader exports and another imports. Pure; docs/page-storage.md has the form.
import { fields, list, type Persona, type Prompt, type Settings } from "../store/rows.ts";
import { isNothing, usable } from "./fields.ts";
import { bare } from "./hidden.ts";

const FORMAT = "sluice-personas";
const VERSION = 1;
export const MOST_NAME = 100;
const MOST_DESCRIPTION = 1_000;
export const MOST_PROMPT = 100_000;
const MOST_ENTRIES = 2_000;
export const MOST_FILE = 20_000_000;

export interface SharedPersona {
  name: string;
  description: string;
  settings: Settings;
}

export interface SharedPrompt {
  name: string;
  text: string;
}

export interface Shared {
  personas: SharedPersona[];
  prompts: SharedPrompt[];
  // How many entries of the file could not be used.
  refused: number;
}

export function write(personas: readonly Persona[], prompts: readonly Prompt[]): string {
  const document = {
    format: FORMAT,
    version: VERSION,
    personas: personas.map(({ name, description, settings }) => {
      const { persona: _, ...rest } = settings;
      return { name, description, settings: usable(rest) };
    }),
    prompts: prompts.map(({ name, text }) => ({ name, text })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

// What a file holds; null for a file that is none of ours, or of a newer form.
export function read(text: string): Shared | null {
  let document: Record<string, unknown>;
  try {
    document = fields(JSON.parse(text));
  } catch {
    return null;
  }
  if (document.format !== FORMAT || document.version !== VERSION) return null;
  const personas = list(document.personas);
  const prompts = list(document.prompts);
  const made = {
    personas: personas.slice(0, MOST_ENTRIES).flatMap((one) => persona(one) ?? []),
    prompts: prompts.slice(0, MOST_ENTRIES).flatMap((one) => prompt(one) ?? []),
  };
  const refused = personas.length + prompts.length - made.personas.length - made.prompts.length;
  return { ...made, refused };
}

// A name as the page shows it: in one line, with nothing that hides or turns.
export function named(value: unknown): string {
  return typeof value === "string" ? bare(value).replace(/\s+/g, " ").trim().slice(0, MOST_NAME) : "";
}

function persona(value: unknown): SharedPersona | null {
  const row = fields(value);
  const name = named(row.name);
  const { persona: _, ...settings } = usable(row.settings);
  const description = typeof row.description === "string" ? row.description.slice(0, MOST_DESCRIPTION) : "";
  return name && !isNothing(settings) ? { name, description, settings } : null;
}

function prompt(value: unknown): SharedPrompt | null {
  const row = fields(value);
  const name = named(row.name);
  const found = typeof row.text === "string" ? row.text : "";
  return name && found.trim() && found.length <= MOST_PROMPT ? { name, text: found } : null;
}
