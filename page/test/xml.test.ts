import assert from "node:assert/strict";
import { test } from "node:test";
import { Unreadable } from "../src/attachments/reading/unreadable.ts";
import { attribute, readXml } from "../src/attachments/reading/xml.ts";
import { bytesOf } from "./files.ts";

async function* chunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

// What a text says, with neighbouring pieces of text as one.
async function told(text: string | Uint8Array, size = 1_000_000): Promise<string[]> {
  const found: string[] = [];
  await readXml(chunks(typeof text === "string" ? bytesOf(text) : text, size), {
    open: (name, attributes) => found.push(`<${name} ${Object.entries(attributes).join(" ")}`.trim()),
    text: (piece) => {
      if (found.at(-1)?.startsWith("'")) found[found.length - 1] += piece;
      else found.push(`'${piece}`);
    },
    close: (name) => found.push(`/${name}`),
  });
  return found;
}

const TEXT = `\ufeff<?xml version="1.0"?><!-- <a> & --><w:a w:x="1 &gt; 2" y = '"'>é&amp;&#65;&#x1F600;日<b
 /><![CDATA[<no> &amp;]]></w:a >
`;
const SAYS = [`<a w:x,1 > 2 y,"`, "'é&A😀日", "<b", "/b", "'<no> &amp;", "/a"];

test("elements, attributes and text are told without their prefixes, wherever a chunk is cut", async () => {
  assert.deepEqual(await told(TEXT), SAYS);
  const bytes = bytesOf(TEXT);
  for (let size = 1; size < 40; size += 1)
    assert.deepEqual(await told(bytes, size), SAYS, `chunks of ${size}`);
  const wide = Buffer.from("\ufeff<a>é</a>", "utf16le");
  assert.deepEqual(await told(wide), ["<a", "'é", "/a"]);
  assert.equal(attribute({ id: "1", "r:ref": "2" }, "ref"), "2");
});

test("what is not XML is refused, and so are declarations", async () => {
  const broken = [
    "", " ", "text", "<a>", "</a>", "<a></b>", "<a/><b/>", "<a><b></a></b>", "<a", "<a b>", "<a b=1/>", "<a b='/>",
    "<a>&unknown;</a>", "<a>&#x110000;</a>", "<a<b/>/>", "<>", "<a/>text", "<a>".repeat(20_000),
  ]; // biome-ignore format: a list of texts
  for (const text of broken) await assert.rejects(told(text, 7), { reason: "broken" }, text.slice(0, 20));
  for (const text of ["<!DOCTYPE a><a/>", "<a><!ENTITY b 'c'></a>"]) {
    await assert.rejects(told(text, 7), { reason: "entities" }, text);
  }
});

test("hostile texts take time by their length alone", async () => {
  const long = 300_000;
  const texts = [
    `<a b="${"x".repeat(900_000)}"/>`,
    `<a ${"b".repeat(900_000)} c="1"/>`,
    `<a ${" ".repeat(900_000)}b="1"/>`,
    `<a>${"&".repeat(long)}</a>`,
    `<a>${"&amp".repeat(long)}</a>`,
    `<a>${"<b/>".repeat(long)}</a>`,
    `<!--${"-".repeat(long * 5)}`,
    `<a ${'b="1" '.repeat(150_000)}/>`,
    `<a>${"<".repeat(long)}`,
  ];
  for (const text of texts) {
    const start = process.cpuUsage();
    await told(text, 65_536).catch((error: unknown) => assert.ok(error instanceof Unreadable));
    const { user, system } = process.cpuUsage(start);
    assert.ok((user + system) / 1_000 < 3_000, text.slice(0, 20));
  }
});
