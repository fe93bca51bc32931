import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDB } from "idb";
import { Disk } from "../src/store/disk.ts";
import {
  type Attachment,
  asConversation,
  asDraft,
  asMessage,
  asSettings,
  type Conversation,
  fromVersion1,
  type Message,
  VERSION,
} from "../src/store/rows.ts";
import { ALL } from "../src/store/upgrade.ts";

const QUIET = { onBlocked: () => {}, onOutdated: () => {} };
let users = 0;

function someone(): string {
  users += 1;
  return `u-${users}`;
}

function conversation(id: string, more: Partial<Conversation> = {}): Conversation {
  const plain = { titled: "automatic", pinned: false, folder: "", settings: {} } as const;
  return { id, title: id, created: 1, updated: 1, model: "m", leaf: "", ...plain, ...more };
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

function attachment(id: string, more: Partial<Attachment> = {}): Attachment {
  const plain = { kind: "text", size: 3, type: "text/plain", created: 1 } as const;
  return { id, conversation: "c", name: id, ...plain, ...more };
}

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

// What the page of version 2 left in a browser: rows as it wrote them.
const OF_2 = {
  conversations: [{ id: "c1", title: "Paris", created: 1, updated: 2, model: "m", leaf: "c1:0", later: [1] }],
  messages: [
    {
      id: "c1:0",
      conversation: "c1",
      parent: "",
      role: "user",
      content: "Capital of France?",
      created: 1,
      state: "done",
      model: "",
    },
  ],
  drafts: [{ conversation: "c1", text: "And of Sp" }],
};

async function pageOf2(user: string): Promise<void> {
  const database = await openDB(`sluice-${user}`, 2, {
    upgrade: (made) => {
      made.createObjectStore("conversations", { keyPath: "id" });
      made.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
      made.createObjectStore("drafts", { keyPath: "conversation" });
    },
  });
  for (const [table, rows] of Object.entries(OF_2)) for (const row of rows) await database.put(table, row);
  database.close();
}

// Has each write of a table fail from the nth on, as on a full disk.
async function withFullDisk<Value>(nth: number, during: () => Promise<Value>): Promise<Value> {
  const { add, put } = IDBObjectStore.prototype;
  let writes = 0;
  const counted = (write: typeof put) =>
    function (this: IDBObjectStore, ...row: Parameters<typeof put>) {
      writes += 1;
      if (writes >= nth) throw new DOMException("full", "QuotaExceededError");
      return write.apply(this, row);
    };
  Object.assign(IDBObjectStore.prototype, { add: counted(add), put: counted(put) });
  try {
    return await during();
  } finally {
    Object.assign(IDBObjectStore.prototype, { add, put });
  }
}

test("what a page of version 2 stored is all there, row by row as it was", async () => {
  const user = someone();
  await pageOf2(user);
  const disk = await Disk.open(user, QUIET);
  const [found] = await disk.conversations();
  assert.deepEqual(
    found,
    conversation("c1", { title: "Paris", updated: 2, leaf: "c1:0", titled: "automatic" }),
  );
  assert.deepEqual(await disk.messages("c1"), OF_2.messages);
  assert.equal((await disk.draft("c1")).text, "And of Sp");
  await disk.change("c1", { pinned: true });
  disk.close();
  const database = await openDB(`sluice-${user}`);
  assert.deepEqual([...database.objectStoreNames].sort(), [...ALL].sort());
  assert.deepEqual(await database.getAll("conversations"), [{ ...OF_2.conversations[0], pinned: true }]);
  assert.deepEqual(await database.getAll("messages"), OF_2.messages);
  database.close();
});

test("what a page of version 3 stored is all there, and a draft can have an edit from then on", async () => {
  const user = someone();
  await pageOf2(user);
  const made = await openDB(`sluice-${user}`, 3, {
    upgrade: (database) => {
      database
        .createObjectStore("attachments", { keyPath: "id" })
        .createIndex("conversation", "conversation");
      for (const name of ["folders", "personas", "prompts"]) {
        database.createObjectStore(name, { keyPath: "id" });
      }
      database.createObjectStore("settings", { keyPath: "name" });
    },
  });
  const before = { folders: { id: "f", name: "Work", created: 1 }, settings: { name: "remind", value: 7 } };
  const file = { ...attachment("a", { conversation: "c1" }), later: true };
  await made.put("folders", before.folders);
  await made.put("settings", before.settings);
  await made.put("attachments", file);
  made.close();
  const disk = await Disk.open(user, QUIET);
  await disk.setDraft("c1", { edit: { message: "c1:0", text: "Capital of Spain?" } });
  disk.close();
  const database = await openDB(`sluice-${user}`, VERSION);
  for (const table of ["conversations", "messages"] as const) {
    assert.deepEqual(await database.getAll(table), OF_2[table]);
  }
  const edit = { message: "c1:0", text: "Capital of Spain?" };
  assert.deepEqual(await database.getAll("drafts"), [{ ...OF_2.drafts[0], edit }]);
  assert.deepEqual(await database.getAll("folders"), [before.folders]);
  assert.deepEqual(await database.getAll("settings"), [before.settings]);
  assert.deepEqual(await database.getAll("attachments"), [file]);
  database.close();
});

test("an upgrade from version 1 that fails at any write leaves the old data, and the next one succeeds", async () => {
  const writes = 4 + 1 + 2;
  for (let nth = 1; nth <= writes; nth += 1) {
    const user = someone();
    await oldPage(user, OLD);
    await withFullDisk(nth, () => assert.rejects(Disk.open(user, QUIET)));
    const before = await openDB(`sluice-${user}`, 1);
    assert.deepEqual(await before.getAll("conversations"), OLD);
    before.close();
    const disk = await Disk.open(user, QUIET);
    assert.equal((await disk.messages("c1")).length, 4);
    disk.close();
  }
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
  await disk.setDraft("c", { text: "typed" });
  assert.equal((await disk.draft("c")).text, "");
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
  await disk.setDraft("c", { text: "not sent" });
  await disk.addAttachment(attachment("f"));
  const removed = await disk.remove(["c", "d", "unknown"]);
  assert.deepEqual(await disk.conversations(), []);
  assert.equal((await disk.draft("c")).text, "");
  assert.equal(await disk.attachment("f"), undefined);
  await disk.takeIn(removed);
  assert.deepEqual(await disk.conversations(), [conversation("c"), conversation("d")]);
  assert.deepEqual(await disk.messages("c"), [message("a"), message("b", { parent: "a" })]);
  assert.equal((await disk.draft("c")).text, "not sent");
  assert.deepEqual(await disk.attachment("f"), attachment("f"));
  const taken = await disk.removeMessages(["b", "unknown"]);
  assert.deepEqual(taken, [message("b", { parent: "a" })]);
  disk.close();
});

test("drafts belong to their conversation, and an empty one is none", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  await disk.setDraft("new", { text: "a" });
  await disk.setDraft("c", { text: "b" });
  await disk.setDraft("new", { text: "" });
  assert.deepEqual([(await disk.draft("new")).text, (await disk.draft("c")).text], ["", "b"]);
  const files = [{ id: "f", name: "f.txt", kind: "text" as const, size: 3, pages: [0, 2] }];
  await disk.setDraft("c", { attachments: files });
  assert.deepEqual(await disk.draft("c"), { conversation: "c", text: "b", attachments: files });
  await disk.setDraft("c", { text: "" });
  assert.deepEqual((await disk.draft("c")).attachments, files);
  await disk.setDraft("c", { attachments: [] });
  assert.deepEqual(await disk.draft("c"), { conversation: "c", text: "" });
  disk.close();
});

test("an edit is stored beside the draft, and ends without it", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  const files = [{ id: "f", name: "f.txt", kind: "text" as const, size: 3 }];
  await disk.setDraft("c", { text: "typed", edit: { message: "a", text: "anew" } });
  await disk.setDraft("c", { edit: { message: "a", attachments: files } });
  await disk.setDraft("c", { text: "typed more" });
  await disk.setDraft("c", { edit: { message: "a", text: "anew once more" } });
  const edit = { message: "a", text: "anew once more", attachments: files };
  assert.deepEqual(await disk.draft("c"), { conversation: "c", text: "typed more", edit });
  await disk.setDraft("c", { edit: { message: "b", text: "another" } });
  assert.deepEqual((await disk.draft("c")).edit, { message: "b", text: "another" });
  await disk.setDraft("c", { text: "" });
  assert.deepEqual((await disk.draft("c")).edit, { message: "b", text: "another" });
  await disk.setDraft("c", { edit: null });
  await disk.setDraft("c", { edit: { message: "b", attachments: files } });
  assert.deepEqual(await disk.draft("c"), { conversation: "c", text: "" });
  disk.close();
});

test("attachments are stored with their bytes or pages, and are given to a conversation once it exists", async () => {
  const disk = await Disk.open(someone(), QUIET);
  const picture = attachment("p", { conversation: "new", kind: "image", bytes: new Blob(["abc"]) });
  const pages = [
    { name: "1", text: "first" },
    { name: "2", text: "second" },
  ];
  await disk.addAttachment(picture);
  await disk.addAttachment(attachment("t", { conversation: "new", pages }));
  await disk.giveAttachments(["p", "t", "unknown"], "c");
  assert.equal(await (await disk.attachment("p"))?.bytes?.text(), "abc");
  assert.deepEqual((await disk.attachment("t"))?.pages, pages);
  assert.deepEqual((await disk.attachments("c")).map((one) => one.id).sort(), ["p", "t"]);
  await disk.removeAttachments(["p"]);
  assert.deepEqual(
    (await disk.attachments("c")).map((one) => one.id),
    ["t"],
  );
  disk.close();
});

test("folders, personas, prompts and settings are rows by themselves, and keep fields of other versions", async () => {
  const user = someone();
  const disk = await Disk.open(user, QUIET);
  await disk.putOn("folders", { id: "f", name: "Work", created: 1 });
  const later = { id: "f", name: "Work", created: 1, colour: "red" };
  await disk.putOn("folders", later);
  await disk.putOn("folders", { id: "f", name: "Office", created: 1 });
  assert.deepEqual(await disk.shelf("folders"), [{ ...later, name: "Office" }]);
  await disk.takeFrom("folders", "f");
  assert.deepEqual(await disk.shelf("folders"), []);
  await disk.set("remind", 30);
  await disk.set("gone", 1);
  await disk.set("gone", undefined);
  assert.deepEqual([...(await disk.settings())], [["remind", 30]]);
  disk.close();
});

test("messages follow another one only where they still follow what was meant", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  for (const row of [message("a"), message("b", { parent: "a" }), message("d", { parent: "x" })]) {
    await disk.add(row);
  }
  await disk.replant(["b", "d", "unknown"], "a", "");
  assert.equal((await disk.message("b"))?.parent, "");
  assert.equal((await disk.message("d"))?.parent, "x");
  disk.close();
});

test("what is taken in overwrites nothing, and a full disk takes in nothing of it", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c", { title: "here" }));
  await disk.add(message("a", { content: "here" }));
  const taken = {
    conversations: [conversation("c", { title: "elsewhere" })],
    messages: [message("a", { content: "elsewhere" }), message("b", { parent: "a" })],
    drafts: [{ conversation: "c", text: "typed" }],
    attachments: [attachment("f")],
  };
  for (let nth = 1; nth <= 3; nth += 1) {
    await withFullDisk(nth, () => assert.rejects(disk.takeIn(taken), { name: "QuotaExceededError" }));
    assert.equal((await disk.messages("c")).length, 1);
    assert.deepEqual(await disk.attachments("c"), []);
  }
  assert.equal(await disk.takeIn(taken), 1);
  assert.equal(await disk.takeIn(taken), 0);
  assert.equal((await disk.conversation("c"))?.title, "here");
  assert.deepEqual(
    (await disk.messages("c")).map(({ content }) => content),
    ["here", "b"],
  );
  disk.close();
});

test("on a full disk each change fails, says so and leaves what was there", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  await disk.add(message("a", { state: "writing" }));
  await disk.setDraft("c", { text: "typed" });
  await disk.putOn("folders", { id: "f", name: "Work", created: 1 });
  await disk.addAttachment(attachment("f"));
  const changes: (() => Promise<unknown>)[] = [
    () => disk.begin(conversation("d")),
    () => disk.add(message("b")),
    () => disk.change("c", { title: "new" }),
    () => disk.write("a", { content: "new" }),
    () => disk.replant(["a"], "", "b"),
    () => disk.setDraft("c", { text: "new" }),
    () => disk.addAttachment(attachment("g")),
    () => disk.giveAttachments(["f"], "d"),
    () => disk.putOn("folders", { id: "f", name: "new", created: 1 }),
    () => disk.putOn("personas", { id: "p", name: "new", description: "", settings: {}, created: 1 }),
    () => disk.putOn("prompts", { id: "p", name: "new", text: "", created: 1 }),
    () => disk.set("remind", 1),
  ];
  for (const change of changes) {
    await withFullDisk(1, () => assert.rejects(change(), { name: "QuotaExceededError" }, String(change)));
  }
  assert.deepEqual(await disk.conversations(), [conversation("c")]);
  assert.deepEqual(await disk.messages("c"), [message("a", { state: "writing" })]);
  assert.equal((await disk.draft("c")).text, "typed");
  assert.deepEqual(await disk.shelf("folders"), [{ id: "f", name: "Work", created: 1 }]);
  assert.deepEqual(
    (await disk.attachments("c")).map((one) => one.id),
    ["f"],
  );
  disk.close();
});

test("a temporary conversation is never stored", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await assert.rejects(disk.begin(conversation("c", { temporary: true })));
  await disk.add(message("a"));
  assert.deepEqual([await disk.conversations(), await disk.messages("c")], [[], []]);
  disk.close();
});

test("messages of all conversations are read in pieces, each once", async () => {
  const disk = await Disk.open(someone(), QUIET);
  await disk.begin(conversation("c"));
  for (const id of ["a", "b", "d"]) await disk.add(message(id));
  const ids = async (after: string, most: number) =>
    (await disk.messagesAfter(after, most)).map((row) => row.id);
  assert.deepEqual(await ids("", 2), ["a", "b"]);
  assert.deepEqual(await ids("b", 2), ["d"]);
  assert.deepEqual(await ids("d", 2), []);
  disk.close();
});

test("everything can be deleted, and nothing is left", async () => {
  const user = someone();
  const disk = await Disk.open(user, QUIET);
  await disk.takeIn({
    conversations: [conversation("c")],
    messages: [message("a")],
    drafts: [{ conversation: "c", text: "typed" }],
    attachments: [attachment("f")],
  });
  await disk.putOn("folders", { id: "f", name: "Work", created: 1 });
  await disk.set("remind", 1);
  await disk.clear();
  disk.close();
  const database = await openDB(`sluice-${user}`);
  for (const name of ALL) assert.deepEqual(await database.getAll(name), [], name);
  database.close();
});

test("unknown values become known ones, and nothing is refused", () => {
  const odd = { id: "a", role: "tool", state: "from the future", content: null, created: Number.NaN };
  assert.deepEqual(
    asMessage(odd),
    message("a", { conversation: "", role: "assistant", content: "", created: 0 }),
  );
  const strange = {
    settings: { system: 7, temperature: "hot", top_p: 0.5, max_tokens: 1.5, seed: 3, later: "kept" },
    titled: "by a star",
    pinned: "yes",
    folder: null,
  };
  assert.deepEqual(asConversation(strange).settings, { top_p: 0.5, seed: 3, later: "kept" });
  const { titled, pinned, folder } = asConversation(strange);
  assert.deepEqual([titled, pinned, folder], ["automatic", false, ""]);
  const full = {
    ...message("a"),
    reasoning: { text: "hm", milliseconds: "long" },
    usage: { prompt_tokens: 7 },
    attachments: [null, { id: "f", name: "f", kind: "hologram", size: 1, pages: [0, "x"] }],
  };
  assert.deepEqual(asMessage(full).reasoning, { text: "hm", milliseconds: 0 });
  assert.deepEqual(asMessage(full).usage, { prompt_tokens: 7, completion_tokens: 0, milliseconds: 0 });
  assert.deepEqual(asMessage(full).attachments, [
    { id: "", name: "", kind: "text", size: 0 },
    { id: "f", name: "f", kind: "text", size: 1, pages: [0] },
  ]);
  assert.equal(asMessage({ id: "a", reasoning: "x", attachments: 3 }).attachments, undefined);
  for (const value of [null, 7, "x", []]) {
    assert.deepEqual(asSettings(value), {});
    assert.equal(asDraft(value).text, "");
    assert.equal(asDraft({ edit: value }).edit, undefined);
  }
  for (const value of [null, 7, "x", [], {}]) assert.equal(fromVersion1(value).messages.length, 0);
});
