// Conversations, in this browser and nowhere else: one database for each person who signs in here.
const TABLE = "conversations";

export class Store {
  #database;

  static async open(user) {
    const store = new Store();
    store.#database = await new Promise((resolve, reject) => {
      const opening = indexedDB.open(`sluice-${user}`, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });
    return store;
  }

  async list() {
    const found = await this.#run("readonly", (table) => table.getAll());
    return found.sort((one, other) => other.updated - one.updated);
  }

  save(conversation) {
    return this.#run("readwrite", (table) => table.put(structuredClone(conversation)));
  }

  remove(id) {
    return this.#run("readwrite", (table) => table.delete(id));
  }

  clear() {
    return this.#run("readwrite", (table) => table.clear());
  }

  #run(mode, action) {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(TABLE, mode);
      const request = action(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  }
}

// Where the browser keeps nothing (private windows of some), conversations last as long as the page.
export class Memory {
  #rows = new Map();

  async list() {
    return [...this.#rows.values()].sort((one, other) => other.updated - one.updated);
  }

  async save(conversation) {
    this.#rows.set(conversation.id, conversation);
  }

  async remove(id) {
    this.#rows.delete(id);
  }

  async clear() {
    this.#rows.clear();
  }
}
