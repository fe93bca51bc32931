import assert from "node:assert/strict";
import { test } from "node:test";
import { measure, newest, room, tokensIn, tokensOf } from "../src/chat/fitting.ts";

const turn = (role: string, length: number) => ({ role, content: "a".repeat(length) });
const TALK = [
  turn("user", 300),
  turn("assistant", 300),
  turn("user", 300),
  turn("assistant", 300),
  turn("user", 300),
];

test("tokens are estimated by the script", () => {
  assert.equal(tokensIn("a".repeat(300)), 100);
  assert.equal(tokensIn("日本語"), 3);
  assert.equal(tokensIn(""), 0);
});

test("an answer keeps its room, and half of a small context", () => {
  assert.equal(room(2048), 1536);
  assert.equal(room(600), 300);
  assert.equal(room(undefined), Number.POSITIVE_INFINITY);
});

test("the newest turns are kept, beginning with a question", () => {
  assert.equal(newest(TALK, 10_000).left, 0);
  const { messages, left } = newest(TALK, 430);
  assert.equal(left, 2);
  assert.equal(messages[0]?.role, "user");
  assert.ok(tokensOf(messages) <= 430);
});

test("what the model is told first stays, and the question goes in any case", () => {
  const { messages, left } = newest([turn("system", 900), ...TALK], 200);
  assert.deepEqual(
    messages.map((one) => one.role),
    ["system", "user"],
  );
  assert.equal(left, 4);
  assert.deepEqual(newest([turn("user", 9_000)], 10), { messages: [turn("user", 9_000)], left: 0 });
});

test("too much is measured in its parts", () => {
  const over = measure([turn("system", 300), ...TALK], 800);
  assert.equal(over.room, 400);
  assert.equal(over.system, 100);
  assert.equal(over.question, 100);
  assert.ok(over.all > over.room && over.left === 4);
  // An engine counts more: something is left out all the same.
  assert.equal(measure(TALK, 100_000).left, 2);
  assert.equal(measure([turn("user", 90_000)], 800).left, 0);
});

test("a conversation of ten thousand turns is measured at once", () => {
  const long = Array.from({ length: 10_001 }, (_, at) => turn(at % 2 ? "assistant" : "user", 200));
  const begun = process.cpuUsage();
  measure(long, 4_096);
  assert.ok(process.cpuUsage(begun).user < 500_000);
});

test("pictures and sounds of earlier turns count, and are left out with their turns", () => {
  const media = [{ type: "image_url", image_url: { url: "data:," } }] as const;
  const turns = [
    { role: "user", content: "a", media },
    { role: "assistant", content: "b" },
    { role: "user", content: "c" },
  ];
  assert.ok(tokensOf(turns) > 1_500);
  assert.deepEqual(newest(turns, 1_000), { messages: turns.slice(2), left: 2 });
  assert.deepEqual(newest(turns, 2_000), { messages: turns, left: 0 });
});
