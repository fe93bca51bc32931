import assert from "node:assert/strict";
import { test } from "node:test";
import { HARD_LINES, MOST, pieces, references, split } from "../src/markdown/split.ts";
import { HOSTILE, randomMarkdown } from "./hostile.ts";

const LONGEST = MOST + 1_500;

const LONG = "x = 1\n".repeat(400);

function kinds(text: string): string[][] {
  return split(text).map(({ kind, source, language }) => [kind, source, language]);
}

test("a short text is one part, and long code between fences a part of its own", () => {
  assert.equal(split("Look:\n\n```python x\nprint(1)\n\n```\nThat was it.\n\n- a\n- b\n").length, 1);
  assert.deepEqual(kinds(`Look:\n\n\`\`\`python x\n${LONG}\n\`\`\`\nThat was it.\n`), [
    ["prose", "Look:\n\n", ""],
    ["code", LONG, "python"],
    ["prose", "That was it.\n", ""],
  ]);
});

test("code that has not ended yet is code", () => {
  assert.deepEqual(kinds(`~~~\n${LONG}`), [["code", LONG.trimEnd(), ""]]);
  assert.deepEqual(kinds(`\`\`\`\`\n\`\`\`\n${LONG}\`\`\`\`\nb`), [
    ["code", `\`\`\`\n${LONG.trimEnd()}`, ""],
    ["prose", "b", ""],
  ]);
});

test("three backticks with another behind them begin no code", () => {
  assert.deepEqual(
    split("``` a ` b").map((part) => part.kind),
    ["prose"],
  );
});

test("code within a list stays with its item", () => {
  assert.equal(split("1. Do:\n   ```sh\n   ls\n   ```\n2. Then:\n").length, 1);
});

test("a cut table repeats its head", () => {
  const text = `| a | b |\n| - | - |\n${"| 1 | 2 |\n".repeat(2_000)}`;
  const parts = split(text);
  assert.ok(parts.length > 1);
  for (const part of parts) assert.ok(part.source.startsWith("| a | b |\n| - | - |\n"));
});

test("where [name] leads is found in the whole text", () => {
  assert.equal(references("a [b]\n\n[b]: https://example.org\nc"), "[b]: https://example.org");
});

for (const [name, make] of Object.entries(HOSTILE)) {
  test(`every part of ${name} is bounded, and nothing is lost`, () => {
    const text = make(50_000);
    const parts = split(text);
    for (const part of parts) if (part.kind === "prose") assert.ok(part.source.length <= LONGEST);
    const most = text.length / 1_000 + text.split("\n").length / HARD_LINES + 10;
    assert.ok(parts.length <= most, `${parts.length} parts of ${text.length}`);
    if (parts.every((part) => part.kind === "prose" && !text.includes("|"))) {
      const words = (of: string) => of.replaceAll(/\s/g, "");
      assert.ok(words(parts.map((part) => part.source).join("")) === words(text));
    }
  });
}

test("a text that grows piece by piece is cut as the whole text is", () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const text = randomMarkdown(seed, 20_000);
    let parts = split("");
    for (let at = 0; at < text.length; at += 997) parts = split(text.slice(0, at), parts);
    assert.ok(JSON.stringify(split(text, parts)) === JSON.stringify(split(text)), `seed ${seed}`);
  }
});

test("plain text is cut into bounded pieces, and never within a character", () => {
  for (const text of ["😀".repeat(20_000), "a\n".repeat(20_000), "", "a".repeat(100_000)]) {
    const cut = pieces(text);
    assert.equal(cut.join(""), text);
    for (const piece of cut) {
      assert.ok(piece.length <= 8_001);
      assert.ok(piece.isWellFormed());
    }
  }
});
