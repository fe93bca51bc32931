import assert from "node:assert/strict";
import { test } from "node:test";
import { left, piece, sent, told, waited } from "../src/chat/waiting.ts";

const AT = 1_000_000;

test("a wait begins with what the list of models says", () => {
  assert.equal(left(sent(AT), AT), null);
  assert.equal(left(sent(AT, AT + 90_000), AT + 30_000), 60);
  assert.equal(left(sent(AT, AT - 5_000), AT), null, "a time that has passed says nothing");
});

test("the gateway's notes give place and time, and both count down", () => {
  const wait = told(sent(AT), "queued position=3 expected=42s", AT + 5_000);
  assert.equal(wait.position, 3);
  assert.equal(left(wait, AT + 5_000), 42);
  assert.equal(left(wait, AT + 6_000), 41);
  assert.equal(left(wait, AT + 99_000), 0);
  assert.equal(waited(wait, AT + 7_500), 7);
  const working = told(wait, "working", AT + 9_000);
  assert.deepEqual([working.position, left(working, AT + 9_000), working.reading], [0, null, true]);
});

test("a note without a time, and notes of another kind", () => {
  const wait = told(sent(AT), "queued position=1", AT);
  assert.deepEqual([wait.position, left(wait, AT)], [1, null]);
  for (const note of ["", "queued", "queued position=x", "queued position=1 expected=1", "hello"])
    assert.equal(told(wait, note, AT), wait);
});

test("a count from two minutes is read out in five pieces, and once when it is over", () => {
  const wait = told(sent(AT), "queued position=2 expected=121s", AT);
  const pieces = new Set(Array.from({ length: 140 }, (_, second) => piece(wait, AT + second * 1000)));
  assert.equal(pieces.size, 6);
  const further = told(wait, "queued position=1 expected=121s", AT);
  assert.notEqual(piece(further, AT), piece(wait, AT), "another place is news");
});
