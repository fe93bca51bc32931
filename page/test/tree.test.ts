import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../src/store/rows.ts";
import { below, newest, path, siblings } from "../src/store/tree.ts";

function tree(...rows: [id: string, parent: string][]): Map<string, Message> {
  const plain = { conversation: "c", role: "user", content: "", state: "done", model: "" } as const;
  return new Map(rows.map(([id, parent], created) => [id, { id, parent, created, ...plain }]));
}

const ids = (messages: readonly Message[]) => messages.map((message) => message.id).join("");
const SOME = tree(["a", ""], ["b", "a"], ["c", "b"], ["d", "a"], ["e", "d"]);

test("the path leads from the first message to the one that is looked at", () => {
  assert.equal(ids(path(SOME, "c")), "abc");
  assert.equal(ids(path(SOME, "d")), "ad");
});

test("without such a message the path leads to the newest", () => {
  assert.equal(ids(path(SOME, "")), "ade");
  assert.equal(ids(path(SOME, "gone")), "ade");
  assert.equal(ids(path(new Map(), "")), "");
});

test("the newest below a message is the end of its newest branch", () => {
  assert.equal(newest(SOME, "b"), "c");
  assert.equal(newest(SOME, "e"), "e");
  assert.equal(newest(SOME, "a"), "e");
});

test("siblings follow the same message, in the order of their making", () => {
  const [, b] = path(SOME, "b");
  assert.equal(b && ids(siblings(SOME, b)), "bd");
});

test("below a message is all that follows it", () => {
  assert.deepEqual(below(SOME, "a").sort(), ["a", "b", "c", "d", "e"]);
  assert.deepEqual(below(SOME, "d").sort(), ["d", "e"]);
});

test("a message whose parent is gone begins the conversation, and circles end", () => {
  assert.equal(ids(path(tree(["b", "gone"], ["c", "b"]), "")), "bc");
  const circle = tree(["a", "b"], ["b", "a"]);
  assert.equal(path(circle, "a").length, 2);
  assert.equal(below(circle, "a").length, 2);
});

test("a conversation of 5,000 messages is followed to its end", () => {
  const long = tree(
    ...Array.from({ length: 5_000 }, (_none, at): [string, string] => [`${at}`, at ? `${at - 1}` : ""]),
  );
  assert.equal(path(long, "").length, 5_000);
  assert.equal(newest(long, ""), "4999");
});

test("a conversation that has changed is another map, and is looked at anew", () => {
  const before = tree(["a", ""], ["b", "a"]);
  assert.equal(newest(before, ""), "b");
  const after = new Map([...before, ...tree(["a", ""], ["b", "a"], ["c", "b"])]);
  assert.equal(newest(after, ""), "c");
  assert.equal(newest(before, ""), "b");
});
