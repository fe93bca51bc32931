import assert from "node:assert/strict";
import { test } from "node:test";
import { read, write } from "../src/settings/files.ts";
import { inserted, offered, slashAt } from "../src/settings/slash.ts";

const prompt = (name: string) => ({ id: name, name, text: `text of ${name}`, created: 1 });

test("a slash opens the menu at the beginning of a line alone", () => {
  assert.deepEqual(slashAt("/", 1), { at: 0, query: "" });
  assert.deepEqual(slashAt("one\n/su x", 7), { at: 4, query: "su" });
  for (const [text, caret] of [
    ["", 0],
    ["/", 0],
    ["a/b", 3],
    ["one\n/two", 2],
    [`/${"a".repeat(80)}`, 81],
    ["/two\nx", 6],
  ] as const)
    assert.equal(slashAt(text, caret), null, text);
});

test("prompts are found by their words, those that begin so first", () => {
  const rows = ["A summary", "Summary", "Übersetzen"].map(prompt);
  assert.deepEqual(
    offered(rows, "sum").map((one) => one.name),
    ["Summary", "A summary"],
  );
  assert.equal(offered(rows, "uber")[0]?.name, "Übersetzen");
  assert.equal(offered(rows, "").length, 3);
  assert.equal(offered(rows, "nothing").length, 0);
});

test("a prompt takes the place of the slash and what was typed behind it", () => {
  assert.deepEqual(inserted("one\n/su three", 7, { at: 4, query: "su" }, "TWO"), {
    text: "one\nTWO three",
    caret: 7,
  });
});

test("a file gives back what was written", () => {
  const settings = { system: "Be brief", seed: 1 };
  const persona = {
    id: "p",
    name: "Brief",
    description: "d",
    settings: { ...settings, persona: "x" },
    created: 1,
  };
  const found = read(write([persona], [prompt("a")]));
  assert.deepEqual(found, {
    personas: [{ name: "Brief", description: "d", settings }],
    prompts: [{ name: "a", text: "text of a" }],
    refused: 0,
  });
});

test("a broken or hostile file changes nothing, and what cannot be used is counted", () => {
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    '{"format":"other","version":1}',
    '{"format":"sluice-personas","version":2}',
  ])
    assert.equal(read(text), null, text);
  const document = {
    format: "sluice-personas",
    version: 1,
    personas: [
      { name: "\u202e turned\n name ", settings: { system: "s" } },
      { name: "", settings: { system: "s" } },
      { name: "sets nothing", settings: { temperature: 9 } },
      null,
    ],
    prompts: [
      { name: "n", text: " " },
      { name: "n", text: 7 },
      { name: "long", text: "x".repeat(200_000) },
    ],
  };
  const found = read(JSON.stringify(document));
  assert.deepEqual(
    found?.personas.map((one) => one.name),
    ["turned name"],
  );
  assert.equal(found?.refused, 6);
  const many = { ...document, personas: [], prompts: Array(3_000).fill({ name: "n", text: "t" }) };
  assert.equal(read(JSON.stringify(many))?.prompts.length, 2_000);
});
