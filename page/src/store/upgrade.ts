// The tables, and how a database of an earlier page becomes one of this page: in one transaction, all of it or nothing.
import type { DBSchema, IDBPDatabase, IDBPTransaction, StoreNames } from "idb";
import {
  type Attachment,
  type Conversation,
  type Draft,
  type Folder,
  fromVersion1,
  type Message,
  type Persona,
  type Prompt,
  type Setting,
} from "./rows.ts";

export interface Tables extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: string; value: Message; indexes: { conversation: string } };
  drafts: { key: string; value: Draft };
  attachments: { key: string; value: Attachment; indexes: { conversation: string } };
  folders: { key: string; value: Folder };
  personas: { key: string; value: Persona };
  prompts: { key: string; value: Prompt };
  settings: { key: string; value: Setting };
}

export type Table = StoreNames<Tables>;

// What belongs to conversations.
export const CONTENT = ["conversations", "messages", "drafts", "attachments"] as const satisfies Table[];
// What stands for itself: rows with an id.
export const SHELVES = ["folders", "personas", "prompts"] as const satisfies Table[];
export const ALL = [...CONTENT, ...SHELVES, "settings"] as const satisfies Table[];

type Upgrade = IDBPTransaction<Tables, Table[], "versionchange">;

// `from` is the version that was there; 0 for none.
export async function upgrade(
  database: IDBPDatabase<Tables>,
  from: number,
  transaction: Upgrade,
): Promise<void> {
  if (from < 1) database.createObjectStore("conversations", { keyPath: "id" });
  if (from < 2) {
    database.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
    database.createObjectStore("drafts", { keyPath: "conversation" });
  }
  // What versions 2 and 3 have stored stays as it is: a field that is not there has the value that it is read with.
  if (from < 3) {
    database.createObjectStore("attachments", { keyPath: "id" }).createIndex("conversation", "conversation");
    for (const name of SHELVES) database.createObjectStore(name, { keyPath: "id" });
    database.createObjectStore("settings", { keyPath: "name" });
  }
  // Version 4 has a field more, of drafts. A page of version 3 would delete drafts that have nothing else.
  if (from === 1) await takeOver(transaction);
}

async function takeOver(transaction: Upgrade): Promise<void> {
  const rows = transaction.objectStore("conversations");
  for (let at = await rows.openCursor(); at; at = await at.continue()) {
    const { conversation, messages } = fromVersion1(at.value);
    for (const message of messages) await transaction.objectStore("messages").put(message);
    await at.update(conversation);
  }
}
