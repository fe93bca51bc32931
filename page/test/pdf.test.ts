import assert from "node:assert/strict";
import { test } from "node:test";
import { MOST_PAGES } from "../src/attachments/limits.ts";
import { read } from "../src/attachments/reading/read.ts";
import { Unreadable } from "../src/attachments/reading/unreadable.ts";
import { bytesOf, pdfOf } from "./files.ts";

function refused(bytes: Uint8Array<ArrayBuffer>, reason: string): Promise<void> {
  return assert.rejects(
    read(new Blob([bytes]), 1_000, () => {}),
    (error) => {
      assert.ok(error instanceof Unreadable, String(error));
      assert.equal(error.reason, reason);
      return true;
    },
  );
}

test("a PDF is read page by page; a page without text keeps its place", async () => {
  const made = await read(new Blob([pdfOf(["First page", "", "Third"])]), 1_000, () => {});
  assert.ok(made.kind === "text");
  assert.deepEqual(
    made.parts.map(({ unit, text }) => [unit, text]),
    [
      ["page", "First page"],
      ["page", ""],
      ["page", "Third"],
    ],
  );
});

test("PDFs with a password, broken ones, and those that are pictures alone end in their words", async () => {
  const secret = "00".repeat(32);
  const lock = `/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<${secret}>/U<${secret}>>>`;
  await refused(pdfOf(["x"], lock), "password");
  await refused(bytesOf("%PDF-1.7\nand nothing else"), "broken");
  await refused(pdfOf(["x"]).slice(0, 300), "broken");
  await refused(pdfOf(["", ""]), "no_text");
});

test("of a PDF of 10,000 pages the first are read, and it is said to be cut", async () => {
  let last = { done: 0, of: 0 };
  const made = await read(
    new Blob([pdfOf(Array.from({ length: 10_000 }, (_none, at) => `Page ${at + 1}`))]),
    1_000,
    (told) => {
      last = told;
    },
  );
  assert.ok(made.kind === "text" && made.cut);
  assert.equal(made.parts.length, MOST_PAGES);
  assert.equal(made.parts.at(-1)?.text, `Page ${MOST_PAGES}`);
  assert.deepEqual([last.done, last.of], [MOST_PAGES, MOST_PAGES]);
});
