// The database in the browser. Each method is one transaction; a change reads what is there first and touches nothing
// else, so a copy that has grown old overwrites nothing, and what somebody deleted does not come back.
import { deleteDB, type IDBPDatabase, type IDBPTransaction, openDB } from "idb";
import { scoped } from "../site.ts";
import {
  type Attached,
  type Attachment,
  asAttachment,
  asConversation,
  asDraft,
  asMessage,
  type Conversation,
  type Draft,
  type Edit,
  type Message,
  NEW,
  VERSION,
} from "./rows.ts";
import { ALL, CONTENT, type SHELVES, type Table, type Tables, upgrade } from "./upgrade.ts";

export type Shelf = (typeof SHELVES)[number];

// What a deletion took, as it was stored, to be put back.
export interface Removed {
  conversations: Conversation[];
  messages: Message[];
  drafts: Draft[];
  attachments: Attachment[];
}

export function nothing(): Removed {
  return { conversations: [], messages: [], drafts: [], attachments: [] };
}

// What a draft has from now on. Of an edit of the same message, what is not named stays; null ends it.
export interface DraftChanges {
  text?: string;
  attachments?: Attached[];
  edit?: (Partial<Edit> & Pick<Edit, "message">) | null;
}

function changedDraft(conversation: string, before: Draft | undefined, changes: DraftChanges): Draft {
  const { edit, ...others } = changes;
  const row: Draft = { text: "", ...before, ...others, conversation };
  const same = edit && before?.edit?.message === edit.message ? before.edit : undefined;
  // A file that was read when the edit had ended begins no new one.
  if (edit && (same || edit.text !== undefined)) row.edit = { text: "", ...same, ...edit };
  if (edit === null) delete row.edit;
  return row;
}

export interface Opening {
  // Another tab holds the database open with an older page.
  onBlocked: () => void;
  // Another tab wants to upgrade it: this one has let go of it.
  onOutdated: () => void;
}

export function nameOf(user: string): string {
  return scoped(`sluice-${user}`);
}

function abort(transaction: { abort: () => void }): void {
  try {
    transaction.abort();
  } catch {
    // It has ended already.
  }
}

export class Disk {
  readonly #database: IDBPDatabase<Tables>;

  private constructor(database: IDBPDatabase<Tables>) {
    this.#database = database;
  }

  // Raises what the browser raises: VersionError where a newer page has been here, others where storage is forbidden.
  static async open(user: string, { onBlocked, onOutdated }: Opening): Promise<Disk> {
    const database = await openDB<Tables>(nameOf(user), VERSION, {
      upgrade(database, from, _to, transaction) {
        // All of it or nothing: idb does not look at how this ends.
        transaction.done.catch(() => {});
        upgrade(database, from, transaction).catch(() => transaction.abort());
      },
      blocked: onBlocked,
      blocking(_current, _wanted, event) {
        (event.target as IDBDatabase).close();
        onOutdated();
      },
    });
    return new Disk(database);
  }

  // Makes one change of tables: all of it, or nothing where any step fails.
  async #writing<Names extends Table[], Value>(
    names: Names,
    change: (transaction: IDBPTransaction<Tables, Names, "readwrite">) => Promise<Value>,
  ): Promise<Value> {
    const transaction = this.#database.transaction(names, "readwrite");
    const { done } = transaction;
    // How it ends is looked at below; a failure on the way fails its own step first.
    done.catch(() => {});
    try {
      const value = await change(transaction);
      await done;
      return value;
    } catch (error) {
      abort(transaction);
      throw error;
    }
  }

  close(): void {
    this.#database.close();
  }

  // Deletes the database, whichever version of this page made it. Tabs that have it open let go of it first.
  static async destroy(user: string): Promise<void> {
    await deleteDB(nameOf(user));
  }

  // --- Reading -------------------------------------------------------------------------------------------

  async conversations(): Promise<Conversation[]> {
    return (await this.#database.getAll("conversations")).map(asConversation);
  }

  async conversation(id: string): Promise<Conversation | undefined> {
    const row = await this.#database.get("conversations", id);
    return row && asConversation(row);
  }

  async messages(conversation: string): Promise<Message[]> {
    return (await this.#database.getAllFromIndex("messages", "conversation", conversation)).map(asMessage);
  }

  async message(id: string): Promise<Message | undefined> {
    const row = await this.#database.get("messages", id);
    return row && asMessage(row);
  }

  // Messages of all conversations in the order of their ids, `most` of them, after the one named; "" for the first.
  async messagesAfter(id: string, most: number): Promise<Message[]> {
    const range = id ? IDBKeyRange.lowerBound(id, true) : null;
    return (await this.#database.getAll("messages", range, most)).map(asMessage);
  }

  async draft(conversation: string): Promise<Draft> {
    return asDraft((await this.#database.get("drafts", conversation)) ?? { conversation });
  }

  async attachment(id: string): Promise<Attachment | undefined> {
    const row = await this.#database.get("attachments", id);
    return row && asAttachment(row);
  }

  async attachments(conversation: string): Promise<Attachment[]> {
    const rows = await this.#database.getAllFromIndex("attachments", "conversation", conversation);
    return rows.map(asAttachment);
  }

  // --- Conversations and messages --------------------------------------------------------------------------

  // Adds a conversation that is not there yet.
  async begin(conversation: Conversation): Promise<void> {
    if (conversation.temporary) throw new Error("a temporary conversation is not stored");
    return this.#writing(["conversations"], async (transaction) => {
      if (!(await transaction.objectStore("conversations").get(conversation.id)))
        await transaction.objectStore("conversations").add(conversation);
    });
  }

  // Adds a message that is not there yet, unless its conversation is gone.
  async add(message: Message): Promise<void> {
    return this.#writing(["conversations", "messages"], async (transaction) => {
      const messages = transaction.objectStore("messages");
      const there = await transaction.objectStore("conversations").get(message.conversation);
      if (there && !(await messages.get(message.id))) await messages.add(message);
    });
  }

  // Adds what is not there yet of a conversation, all of it or nothing. Says how many messages were added.
  async takeIn({ conversations, messages, drafts, attachments }: Removed): Promise<number> {
    return this.#writing([...CONTENT], async (transaction) => {
      let added = 0;
      const rows = transaction.objectStore("conversations");
      for (const row of conversations) if (!(await rows.get(row.id))) await rows.add(row);
      const told = transaction.objectStore("messages");
      for (const row of messages) {
        if (await told.get(row.id)) continue;
        await told.add(row);
        added += 1;
      }
      const files = transaction.objectStore("attachments");
      for (const row of attachments) if (!(await files.get(row.id))) await files.add(row);
      const typed = transaction.objectStore("drafts");
      for (const row of drafts) if (!(await typed.get(row.conversation))) await typed.add(row);
      return added;
    });
  }

  // Changes fields of a conversation that is there.
  async change(id: string, changes: Partial<Conversation>): Promise<void> {
    return this.#writing(["conversations"], async (transaction) => {
      const row = await transaction.objectStore("conversations").get(id);
      if (row) await transaction.objectStore("conversations").put({ ...row, ...changes, id });
    });
  }

  // Changes a message whose answer is under way; one that has ended stays as it is, unless `from` says otherwise.
  async write(id: string, changes: Partial<Message>, from: Message["state"] = "writing"): Promise<boolean> {
    return this.#writing(["messages"], async (transaction) => {
      const row = await transaction.objectStore("messages").get(id);
      // A state that this page does not know counts as what it is read as.
      const fits = asMessage(row).state === from;
      if (row && fits) await transaction.objectStore("messages").put({ ...row, ...changes, id });
      return row !== undefined && fits;
    });
  }

  // Has messages follow another one, those of them that still follow `from`.
  async replant(ids: readonly string[], from: string, parent: string): Promise<void> {
    return this.#writing(["messages"], async (transaction) => {
      const messages = transaction.objectStore("messages");
      for (const id of ids) {
        const row = await messages.get(id);
        if (row?.parent === from) await messages.put({ ...row, parent });
      }
    });
  }

  // Removes conversations with all that belongs to them, and returns that.
  async remove(ids: readonly string[]): Promise<Removed> {
    return this.#writing([...CONTENT], async (transaction) => {
      const removed = nothing();
      const conversations = transaction.objectStore("conversations");
      const drafts = transaction.objectStore("drafts");
      for (const id of ids) {
        const conversation = await conversations.get(id);
        if (!conversation) continue;
        removed.conversations.push(conversation);
        for (const name of ["messages", "attachments"] as const) {
          const table = transaction.objectStore(name);
          const rows: unknown[] = removed[name];
          for (const row of await table.index("conversation").getAll(id)) {
            rows.push(row);
            await table.delete(row.id);
          }
        }
        const draft = await drafts.get(id);
        if (draft) removed.drafts.push(draft);
        await drafts.delete(id);
        await conversations.delete(id);
      }
      return removed;
    });
  }

  // Removes messages of one conversation, and returns those that were there.
  async removeMessages(ids: readonly string[]): Promise<Message[]> {
    return this.#writing(["messages"], async (transaction) => {
      const removed: Message[] = [];
      for (const id of ids) {
        const row = await transaction.objectStore("messages").get(id);
        if (row) removed.push(row);
        await transaction.objectStore("messages").delete(id);
      }
      return removed;
    });
  }

  // --- Drafts and attachments ------------------------------------------------------------------------------

  // Changes what a conversation's draft has, unless the conversation is gone. An empty draft is none.
  async setDraft(conversation: string, changes: DraftChanges): Promise<void> {
    return this.#writing(["conversations", "drafts"], async (transaction) => {
      const drafts = transaction.objectStore("drafts");
      if (conversation !== NEW && !(await transaction.objectStore("conversations").get(conversation))) return;
      const row = changedDraft(conversation, await drafts.get(conversation), changes);
      if (row.text || row.attachments?.length || row.edit) await drafts.put(row);
      else await drafts.delete(conversation);
    });
  }

  async addAttachment(row: Attachment): Promise<void> {
    await this.#database.put("attachments", row);
  }

  // Says what attachments belong to, once that exists.
  async giveAttachments(ids: readonly string[], conversation: string): Promise<void> {
    return this.#writing(["attachments"], async (transaction) => {
      const files = transaction.objectStore("attachments");
      for (const id of ids) {
        const row = await files.get(id);
        if (row) await files.put({ ...row, conversation });
      }
    });
  }

  async removeAttachments(ids: readonly string[]): Promise<void> {
    return this.#writing(["attachments"], async (transaction) => {
      for (const id of ids) await transaction.objectStore("attachments").delete(id);
    });
  }

  // --- Folders, personas, prompts, settings ----------------------------------------------------------------

  async shelf<Name extends Shelf>(name: Name): Promise<Tables[Name]["value"][]> {
    return this.#database.getAll(name);
  }

  // Puts a row there, or changes the fields of the one that is there.
  async putOn<Name extends Shelf>(name: Name, row: Tables[Name]["value"]): Promise<void> {
    return this.#writing([name], async (transaction) => {
      const shelf = transaction.objectStore(name);
      await shelf.put({ ...(await shelf.get(row.id)), ...row });
    });
  }

  async takeFrom(name: Shelf, id: string): Promise<void> {
    await this.#database.delete(name, id);
  }

  async settings(): Promise<Map<string, unknown>> {
    const rows = await this.#database.getAll("settings");
    return new Map(rows.map(({ name, value }) => [name, value]));
  }

  // A setting without a value is none.
  async set(name: string, value: unknown): Promise<void> {
    if (value === undefined) await this.#database.delete("settings", name);
    else await this.#database.put("settings", { name, value });
  }

  // --- Everything ------------------------------------------------------------------------------------------

  // Empties every table.
  async clear(): Promise<void> {
    return this.#writing([...ALL], async (transaction) => {
      for (const name of ALL) await transaction.objectStore(name).clear();
    });
  }
}
