import assert from "node:assert/strict";
import { test } from "node:test";
import { Incoming, separate } from "../src/chat/thinking.ts";

const CASES: [string, string, string, string][] = [
  ["a thought before the answer", "<think>a\nb</think>\n\nc", "c", "a\nb"],
  ["no thought", "a < b and <thinking>", "a < b and <thinking>", ""],
  ["two thoughts", "<think>a</think><think>b</think>c", "c", "a\n\nb"],
  ["a thought between lines", "a\n<think>b</think>\nc", "a\n\nc", "b"],
  ["a thought that never ends", "<think>a", "", "a"],
  ["an empty thought", "<think>\n</think>\n\na", "a", ""],
  ["a thought whose beginning the prompt has", "a\nb\n</think>\n\nc", "c", "a\nb"],
  ["the tag within a line", "the tag `<think>` and <think> x", "the tag `<think>` and <think> x", ""],
  ["the tag in code", "```\n<think>a</think>\n```\nb", "```\n<think>a</think>\n```\nb", ""],
  [
    "a fence within code",
    "```\n```js\n<think>a</think>\n```\n<think>b</think>c",
    "```\n```js\n<think>a</think>\n```\nc",
    "b",
  ],
  [
    "a fence of other marks within code",
    "~~~\n```\n<think>a</think>\n~~~\nb",
    "~~~\n```\n<think>a</think>\n~~~\nb",
    "",
  ],
  ["code within a line", "```a``` b\n<think>a</think>c", "```a``` b\nc", "a"],
  ["the end in a line", "It ends with </think>\n", "It ends with </think>\n", ""],
  ["half a tag at the end", "a\n<thin", "a\n<thin", ""],
];

for (const [name, raw, text, reasoning] of CASES) {
  test(`${name} is told apart from the answer`, () => {
    const found = separate(raw, true);
    assert.equal(found.text, text);
    assert.equal(found.reasoning, reasoning);
  });

  test(`${name}, cut anywhere: what has been shown of a thought or a tag is never taken back`, () => {
    for (let end = 0; end <= raw.length; end += 1) {
      const found = separate(raw.slice(0, end), false);
      assert.ok(!/<\/?think?>?$/.test(found.reasoning), `${end}: ${found.reasoning}`);
      if (!name.includes("prompt has"))
        assert.ok(text.startsWith(found.text.trimEnd()), `${end}: ${found.text}`);
    }
  });
}

test("a million signs that look like tags take linear time", () => {
  for (const unit of [
    "<think>",
    "</think>",
    "<",
    "\n<think",
    "<think>\n</think>\n",
    "```\n<think>\n",
    "`",
    "~~~~\n",
    "```js\n",
    "```a`",
  ]) {
    const before = process.cpuUsage();
    separate(unit.repeat(1_000_000 / unit.length), false);
    const { user, system } = process.cpuUsage(before);
    assert.ok((user + system) / 1_000 < 400, JSON.stringify(unit));
  }
});

test("thoughts that come apart are told how long they took, and end when the answer begins", () => {
  const incoming = new Incoming({ content: "" });
  incoming.think("a ");
  assert.deepEqual(incoming.come(1_000, false), { content: "", reasoning: "a", thought: 0, open: true });
  incoming.think("b");
  assert.deepEqual(incoming.come(3_000, false), {
    content: "",
    reasoning: "a b",
    thought: 2_000,
    open: true,
  });
  incoming.add("c");
  assert.deepEqual(incoming.come(4_000, false), {
    content: "c",
    reasoning: "a b",
    thought: 3_000,
    open: false,
  });
  assert.equal(incoming.come(9_000, true).thought, 3_000);
});

test("what is continued keeps its thoughts, and adds what is thought anew", () => {
  const incoming = new Incoming({ content: "a", reasoning: "b", thought: 500 });
  assert.deepEqual(incoming.come(1, false), { content: "a", reasoning: "b", thought: 500, open: false });
  incoming.add("<think>c");
  incoming.come(1_000, false);
  incoming.add("</think>d");
  assert.deepEqual(incoming.come(1_250, true), {
    content: "ad",
    reasoning: "b\n\nc",
    thought: 750,
    open: false,
  });
});

test("an answer that ends while the model thinks has its thoughts, and no text", () => {
  const incoming = new Incoming({ content: "" });
  incoming.add("<think>a");
  incoming.come(1_000, false);
  assert.deepEqual(incoming.come(2_000, true), { content: "", reasoning: "a", thought: 1_000, open: false });
});
