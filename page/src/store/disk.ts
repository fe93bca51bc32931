// The database in the browser. Each method is one transaction; a change reads what is there first and touches nothing
// else, so a copy that has grown old overwrites nothing, and what somebody deleted does not come back.
import { type DBSchema, type IDBPDatabase, type IDBPTransaction, openDB, type StoreNames } from "idb";
import {
  asConversation,
  asMessage,
  type Conversation,
  type Draft,
  fromVersion1,
  type Message,
  VERSION,
} from "./rows.ts";

interface Tables extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: string; value: Message; indexes: { conversation: string } };
  drafts: { key: string; value: Draft };
}

const TABLES: StoreNames<Tables>[] = ["conversations", "messages", "drafts"];

// What a deletion took, to be put back.
export interface Removed {
  conversations: Conversation[];
  messages: Message[];
  drafts: Draft[];
}

export interface Opening {
  // Another tab holds the database open with an older page.
  onBlocked: () => void;
  // Another tab wants to upgrade it: this one has let go of it.
  onOutdated: () => void;
}

type Upgrade = IDBPTransaction<Tables, StoreNames<Tables>[], "versionchange">;

async function upgrade(database: IDBPDatabase<Tables>, from: number, transaction: Upgrade): Promise<void> {
  database.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
  database.createObjectStore("drafts", { keyPath: "conversation" });
  if (from === 0) {
    database.createObjectStore("conversations", { keyPath: "id" });
    return;
  }
  const rows = transaction.objectStore("conversations");
  for (let at = await rows.openCursor(); at; at = await at.continue()) {
    const { conversation, messages } = fromVersion1(at.value);
    for (const message of messages) await transaction.objectStore("messages").put(message);
    await at.update(conversation);
  }
}

export class Disk {
  readonly #database: IDBPDatabase<Tables>;

  private constructor(database: IDBPDatabase<Tables>) {
    this.#database = database;
  }

  // Raises what the browser raises: VersionError where a newer page has been here, others where storage is forbidden.
  static async open(user: string, { onBlocked, onOutdated }: Opening): Promise<Disk> {
    const database = await openDB<Tables>(`sluice-${user}`, VERSION, {
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

  // How it ends is looked at where it ends; a failure on the way fails its own step too.
  #writing<Names extends StoreNames<Tables>[]>(...names: Names) {
    const transaction = this.#database.transaction(names, "readwrite");
    transaction.done.catch(() => {});
    return transaction;
  }

  close(): void {
    this.#database.close();
  }

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

  async draft(conversation: string): Promise<string> {
    return (await this.#database.get("drafts", conversation))?.text ?? "";
  }

  async setDraft(conversation: string, text: string): Promise<void> {
    if (text) await this.#database.put("drafts", { conversation, text });
    else await this.#database.delete("drafts", conversation);
  }

  // Adds a conversation that is not there yet.
  async begin(conversation: Conversation): Promise<void> {
    const transaction = this.#writing("conversations");
    if (!(await transaction.objectStore("conversations").get(conversation.id)))
      await transaction.objectStore("conversations").add(conversation);
    await transaction.done;
  }

  // Adds a message that is not there yet, unless its conversation is gone.
  async add(message: Message): Promise<void> {
    const transaction = this.#writing("conversations", "messages");
    const messages = transaction.objectStore("messages");
    const there = await transaction.objectStore("conversations").get(message.conversation);
    if (there && !(await messages.get(message.id))) await messages.add(message);
    await transaction.done;
  }

  // Changes fields of a conversation that is there.
  async change(id: string, changes: Partial<Conversation>): Promise<void> {
    const transaction = this.#writing("conversations");
    const row = await transaction.objectStore("conversations").get(id);
    if (row) await transaction.objectStore("conversations").put({ ...row, ...changes, id });
    await transaction.done;
  }

  // Changes a message whose answer is under way; one that has ended stays as it is, unless `from` says otherwise.
  async write(id: string, changes: Partial<Message>, from: Message["state"] = "writing"): Promise<boolean> {
    const transaction = this.#writing("messages");
    const row = await transaction.objectStore("messages").get(id);
    const fits = row?.state === from;
    if (row && fits) await transaction.objectStore("messages").put({ ...row, ...changes, id });
    await transaction.done;
    return fits;
  }

  // Removes conversations with all that belongs to them, and returns that.
  async remove(ids: readonly string[]): Promise<Removed> {
    const transaction = this.#writing(...TABLES);
    const removed: Removed = { conversations: [], messages: [], drafts: [] };
    const messages = transaction.objectStore("messages");
    for (const id of ids) {
      const conversation = await transaction.objectStore("conversations").get(id);
      if (!conversation) continue;
      removed.conversations.push(asConversation(conversation));
      for (const message of await messages.index("conversation").getAll(id)) {
        removed.messages.push(asMessage(message));
        await messages.delete(message.id);
      }
      const draft = await transaction.objectStore("drafts").get(id);
      if (draft) removed.drafts.push(draft);
      await transaction.objectStore("drafts").delete(id);
      await transaction.objectStore("conversations").delete(id);
    }
    await transaction.done;
    return removed;
  }

  // Removes messages of one conversation, and returns those that were there.
  async removeMessages(ids: readonly string[]): Promise<Message[]> {
    const transaction = this.#writing("messages");
    const removed: Message[] = [];
    for (const id of ids) {
      const row = await transaction.objectStore("messages").get(id);
      if (row) removed.push(asMessage(row));
      await transaction.objectStore("messages").delete(id);
    }
    await transaction.done;
    return removed;
  }

  // Puts back what a deletion took; what is there already stays as it is.
  async restore(removed: Removed): Promise<void> {
    const transaction = this.#writing(...TABLES);
    const conversations = transaction.objectStore("conversations");
    for (const row of removed.conversations)
      if (!(await conversations.get(row.id))) await conversations.put(row);
    const messages = transaction.objectStore("messages");
    for (const row of removed.messages) if (!(await messages.get(row.id))) await messages.put(row);
    const drafts = transaction.objectStore("drafts");
    for (const row of removed.drafts) if (!(await drafts.get(row.conversation))) await drafts.put(row);
    await transaction.done;
  }
}
