// Folders, and which conversation lies in which.
import type { Conversation, Folder } from "../store/rows.ts";
import { t } from "../texts.ts";
import { ask } from "./asking.tsx";
import * as library from "./library.ts";
import { say } from "./said.ts";
import { folders, putOn, takeFrom } from "./shelves.ts";
import { offer } from "./undo.ts";

export const NAME_LENGTH = 80;
const NEW_FOLDER = "new";

function askName(title: string, value: string, yes: string): Promise<string | null> {
  return ask({ title, field: { label: t("folder_name"), value, most: NAME_LENGTH }, yes });
}

export async function folderNamed(wanted: string): Promise<Folder> {
  const name = wanted.slice(0, NAME_LENGTH);
  const there = folders.value.find((one) => one.name === name);
  if (there) return there;
  const made = { id: crypto.randomUUID(), name, created: Date.now() };
  await putOn("folders", made);
  return made;
}

export async function make(): Promise<Folder | null> {
  const given = await askName(t("folder_new"), "", t("folder_make"));
  return given ? folderNamed(given) : null;
}

export async function rename(folder: Folder): Promise<void> {
  const given = await askName(t("folder_rename"), folder.name, t("rename_yes"));
  if (!given || given === folder.name) return;
  await putOn("folders", { ...folder, name: given });
  say(t("renamed", { title: given }));
}

// Asks for a folder, and moves a conversation there.
export async function move(row: Conversation): Promise<void> {
  const options = [
    { value: "", label: t("folder_none") },
    ...folders.value.map((one) => ({ value: one.id, label: one.name })),
    { value: NEW_FOLDER, label: t("folder_new") },
  ];
  const choices = { label: t("folder"), value: row.folder, options };
  const given = await ask({ title: t("move_title", { title: row.title }), choices, yes: t("move_yes") });
  if (given === null || given === row.folder) return;
  const folder =
    given === NEW_FOLDER ? await make() : (folders.value.find((one) => one.id === given) ?? null);
  if (given === NEW_FOLDER && !folder) return;
  await library.settle(row.id, { folder: folder?.id ?? "" });
  say(folder ? t("moved", { title: row.title, folder: folder.name }) : t("moved_out", { title: row.title }));
}

// Takes a folder away. What lay in it stays, in no folder.
export async function remove(folder: Folder): Promise<void> {
  await takeFrom("folders", folder.id);
  // The conversations keep the folder's id: nothing has to be changed to put it back.
  offer(t("folder_deleted", { name: folder.name }), () => putOn("folders", folder));
}
