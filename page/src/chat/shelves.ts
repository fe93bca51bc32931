// What stands beside the conversations: folders, personas, prompts, settings. In memory as a whole, in step with other
// tabs; each change goes to the disk as one row.
import { type Signal, signal } from "@preact/signals";
import { locale } from "../formats.ts";
import type { Shelf } from "../store/disk.ts";
import { asFolder, asPersona, asPrompt, type Folder, type Persona, type Prompt } from "../store/rows.ts";
import { isStored, note, onNote, persist, stored } from "./library.ts";

interface Rows {
  folders: Folder;
  personas: Persona;
  prompts: Prompt;
}

export const folders = signal<readonly Folder[]>([]);
export const personas = signal<readonly Persona[]>([]);
export const prompts = signal<readonly Prompt[]>([]);
// What the reader has set, by name.
export const settings = signal<ReadonlyMap<string, unknown>>(new Map());

const shelves: { [Name in Shelf]: Signal<readonly Rows[Name][]> } = { folders, personas, prompts };
const readers: { [Name in Shelf]: (value: unknown) => Rows[Name] } = {
  folders: asFolder,
  personas: asPersona,
  prompts: asPrompt,
};
const names = Object.keys(shelves) as Shelf[];

// To make one takes longer than to sort a list with it.
let collator: Intl.Collator | undefined;

function byName<Row extends { name: string }>(rows: readonly Row[]): Row[] {
  collator ??= new Intl.Collator(locale, { numeric: true });
  const { compare } = collator;
  return [...rows].sort((one, other) => compare(one.name, other.name));
}

// Reads all of them, once the database is open. What could not be stored is in memory alone and stays.
export async function load(): Promise<void> {
  if (!isStored()) return;
  for (const name of names) await read(name);
  await readSettings();
}

async function read<Name extends Shelf>(name: Name): Promise<void> {
  const found: unknown[] = await stored((disk) => disk.shelf<Shelf>(name), []);
  const rows = found.map(readers[name]);
  shelves[name].value = byName(rows);
}

async function readSettings(): Promise<void> {
  settings.value = await stored((disk) => disk.settings(), new Map());
}

// Puts a row on a shelf, or in the place of the one with its id. Here and below: shown once it is stored.
export async function putOn<Name extends Shelf>(name: Name, row: Rows[Name]): Promise<void> {
  await persist((to) => to.putOn<Shelf>(name, row), [note("shelf", name)]);
  const shelf = shelves[name];
  shelf.value = byName([...shelf.value.filter((one) => one.id !== row.id), row]);
}

export async function takeFrom(name: Shelf, id: string): Promise<void> {
  await persist((to) => to.takeFrom(name, id), [note("shelf", name)]);
  const shelf: Signal<readonly { id: string }[]> = shelves[name];
  shelf.value = shelf.value.filter((one) => one.id !== id);
}

// Sets what holds for all conversations; undefined takes the setting away.
export function set(name: string, value: unknown): void {
  const changed = new Map(settings.value);
  if (value === undefined) changed.delete(name);
  else changed.set(name, value);
  settings.value = changed;
  persist((to) => to.set(name, value), [note("setting", name)], `setting ${name}`);
}

// Everything was deleted.
function forget(): void {
  for (const name of names) shelves[name].value = [];
  settings.value = new Map();
}

// Another tab has changed something: its rows are the ones that count.
onNote(({ kind, conversation }) => {
  const name = names.find((one) => one === conversation);
  if (kind === "shelf" && name) read(name);
  else if (kind === "setting") readSettings();
  else if (kind === "erased") forget();
});
