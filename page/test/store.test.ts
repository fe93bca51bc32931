import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDB } from "idb";
import { Disk } from "../src/store/disk.ts";
import { asMessage, type Conversation, fromVersion1, type Message, VERSION } from "../src/store/rows.ts";

const QUIET = { onBlocked: () => {}, onOutdated: () => {} };
let users = 0;

function someone(): string {
  users += 1;
  return `u-${users}`;
}

function conversation(id: string, more: Partial<Conversation> = {}): Conversation {
  return { id, title: id, created: 1, updated: 1, model: "m", leaf: "", ...more };
}

function message(id: string, more: Partial<Message> = {}): Message {
  const plain = { parent: "", role: "user", content: id, created: 1, state: "done", model: "" } as const;
  return { id, conversation: "c", ...plain, ...more };
}

const OLD = [
  {
    id: "c1",
    title: "Paris",
    created: 1_000,
    updated: 2_000,
    model: "smollm2-135m",
    messages: [
      { role: "user", content: "Capital of France?" },
      { role: "assistant", content: "Paris" },
      { role: "user", content: "And of Spain?" },
      { role: "assistant", content: "Mad", note: "stopped_note" },
    ],
  },
  { id: "c2", title: "Asked", created: 3, updated: 3, messages: [{ role: "user", content: "x" }] },
  { id: "c3", title: "Broken", messages: [{ role: "assistant", content: 7, note: "broken_off" }, null] },
  { id: "c4" },
];

// What the page of version 1 left in a browser.
async function oldPage(user: string, rows: unknown[]): Promise<void> {
  const database = await openDB(`sluice-${user}`, 1, {
    upgrade: (made) => void made.createObjectStore("conversations", { keyPath: "id" }),
  });
  for (const row of rows) await database.put("conversations", row);
  database.close();
}

test("what a page of version 1 stored is taken over, message by message", async () => {
  const user = someone();
  await oldPage(user, OLD);
  const disk = await Disk.open(user, QUIET);
  const found = await disk.conversations();
  assert.deepEqual(
    found.map(({ id, title, updated, model, leaf }) => [id, title, updated, model, leaf]),
    [
      ["c1", "Paris", 2_000, "smollm2-135m", "c1:3"],
      ["c2", "Asked", 3, "", "c2:0"],
      ["c3", "Broken", 0, "", "c3:1"],
      ["c4", "", 0, "", ""],
    ],
  );
  const messages = await disk.messages("c1");
  assert.deepEqual(
    messages.map(({ parent, role, content, state }) => [parent, role, content, state]),
    [
      ["", "user", "Capital of France?", "done"],
      ["c1:0", "assistant", "Paris", "done"],
      ["c1:1", "user", "And of Spain?", "done"],
      ["c1:2", "assistant", "Mad", "stopped"],
    ],
  );
  assert.deepEqual(
    (await disk.messages("c3")).map(({ content, state }) => [content, state]),
    [
      ["", "broken"],
      ["", "done"],
    ],
  );
  disk.close();
  const again = await Disk.open(user, QUIET);
  assert.equal((await again.messages("c1")).length, 4);
  again.close();
});

test("an upgrade that fails leaves the old data as they were", async () => {
  const user = someone();
  await oldPage(user, OLD);
  const put = IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  try {
    await assert.rejects(Disk.open(user, QUIET));
  } finally {
    IDBObjectStore.prototype.put = put;
  }
  const database = await openDB(`sluice-${user}`, 1);
  assert.deepEqual(await database.getAll("conversations"), OLD);
  database.close();
});

test("the data of a newer page are not touched", async () => {
  const user = someone();
  (await openDB(`sluice-${user}`, VERSION + 1)).close();
  await assert.rejects(Disk.open(user, QUIET), { name: "VersionError" });
});

test("a page lets go of the database when a newer one wants to upgrade it, and says so", async () => {
  const user = someone();
  let outdated = 0;
  await Disk.open(user, { ...QUIET, onOutdated: () => (outdated += 1) });
  (await openDB(`sluice-${user}`, VERSION + 1)).close();
  assert.equal(outdated, 1);
});

test("a message is stored once, and changed only while it is being written", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  await disk.add(message("a", { state: "writing" }));
  await disk.add(message("a", { content: "another" }));
  assert.equal((await disk.message("a"))?.content, "a");
  assert.equal(await disk.write("a", { content: "ab" }), true);
  assert.equal(await disk.write("a", { content: "abc", state: "done" }), true);
  assert.equal(await disk.write("a", { content: "an old copy" }), false);
  assert.equal((await disk.message("a"))?.content, "abc");
  assert.equal(await disk.write("a", { state: "writing" }, "done"), true);
  disk.close();
});

test("a tab with an old copy overwrites nothing of what another has written", async () => {
  const user = someone();
  const [one, other] = [await Disk.open(user, QUIET), await Disk.open(user, QUIET)];
  await one.begin(conversation("c"));
  await one.change("c", { title: "new title" });
  await other.change("c", { leaf: "m" });
  await other.begin(conversation("c", { title: "an old copy" }));
  assert.deepEqual(await one.conversation("c"), conversation("c", { title: "new title", leaf: "m" }));
  await Promise.all([one.add(message("a")), other.add(message("b"))]);
  assert.equal((await one.messages("c")).length, 2);
  one.close();
  other.close();
});

test("what one tab deleted does not come back by another's writing", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  await disk.add(message("a", { state: "writing" }));
  await disk.remove(["c"]);
  await disk.change("c", { updated: 9 });
  await disk.add(message("b"));
  assert.equal(await disk.write("a", { content: "more" }), false);
  assert.deepEqual(await disk.conversations(), []);
  assert.deepEqual(await disk.messages("c"), []);
  disk.close();
});

test("a deletion is undone with all that belongs to it", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  await disk.begin(conversation("d"));
  await disk.add(message("a"));
  await disk.add(message("b", { parent: "a" }));
  await disk.setDraft("c", "not sent");
  const removed = await disk.remove(["c", "d", "unknown"]);
  assert.deepEqual(await disk.conversations(), []);
  assert.equal(await disk.draft("c"), "");
  await disk.restore(removed);
  assert.deepEqual(await disk.conversations(), [conversation("c"), conversation("d")]);
  assert.deepEqual(await disk.messages("c"), [message("a"), message("b", { parent: "a" })]);
  assert.equal(await disk.draft("c"), "not sent");
  const taken = await disk.removeMessages(["b", "unknown"]);
  assert.deepEqual(taken, [message("b", { parent: "a" })]);
  disk.close();
});

test("drafts belong to their conversation, and an empty one is none", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.setDraft("new", "a");
  await disk.setDraft("c", "b");
  await disk.setDraft("new", "");
  assert.deepEqual([await disk.draft("new"), await disk.draft("c")], ["", "b"]);
  disk.close();
});

test("unknown values become known ones, and nothing is refused", () => {
  const odd = { id: "a", role: "tool", state: "from the future", content: null, created: Number.NaN };
  assert.deepEqual(
    asMessage(odd),
    message("a", { conversation: "", role: "assistant", content: "", created: 0 }),
  );
  for (const value of [null, 7, "x", [], {}]) assert.equal(fromVersion1(value).messages.length, 0);
});
