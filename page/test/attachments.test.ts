import assert from "node:assert/strict";
import { test } from "node:test";
import { constants, deflateRawSync } from "node:zlib";
import { formOf } from "../src/attachments/kinds.ts";
import { MOST_FILE, MOST_TEXT } from "../src/attachments/limits.ts";
import { read } from "../src/attachments/reading/read.ts";
import { Unreadable } from "../src/attachments/reading/unreadable.ts";
import {
  bytesOf,
  joined,
  openDocument,
  type Packed,
  paragraph,
  pdfOf,
  relations,
  slides,
  word,
  workbook,
  zipped,
} from "./files.ts";

async function texts(
  bytes: Uint8Array<ArrayBuffer>,
): Promise<{ names: string[]; texts: string[]; cut: boolean }> {
  const made = await read(new Blob([bytes]), 1_000, () => {});
  assert.equal(made.kind, "text");
  if (made.kind !== "text") throw new Error();
  const names = made.parts.map((part) => `${part.unit}:${part.name}`);
  return { names, texts: made.parts.map((part) => part.text), cut: made.cut };
}

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

function withoutParts(count: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(count);
}

// --- What a file is -----------------------------------------------------------------------------------------

test("a file is what its bytes say, whatever its name", () => {
  assert.equal(formOf(pdfOf(["x"])), "pdf");
  assert.equal(formOf(joined([bytesOf("junk before\n"), pdfOf(["x"])])), "pdf");
  assert.equal(formOf(word(paragraph("x"))), "zip");
  assert.equal(formOf(bytesOf("RIFF    WAVEfmt ")), "wav");
  assert.equal(formOf(bytesOf("ID3 and so on")), "mp3");
  assert.equal(formOf(new Uint8Array([0xff, 0xfb, 0x90, 0x64])), "mp3");
  assert.equal(formOf(bytesOf("PK is how this text begins")), "text");
  assert.equal(formOf(new Uint8Array([0xff, 0xfe, 0x41, 0])), "text");
});

test("files of no bytes, blanks alone, old and locked ones of Office, and archives end in their words", async () => {
  const ole = new Uint8Array([0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]);
  await refused(withoutParts(0), "empty");
  await refused(bytesOf(" \n\t"), "empty");
  await refused(ole, "old_office");
  const locked = [...bytesOf("EncryptedPackage")].flatMap((byte) => [byte, 0]);
  await refused(joined([ole, withoutParts(600), new Uint8Array(locked)]), "password");
  await refused(zipped([{ name: "notes.txt", content: "x" }]), "archive");
  await refused(zipped([]), "archive");
  await refused(
    zipped([
      { name: "mimetype", content: "application/epub+zip" },
      { name: "content.xml", content: "<a/>" },
    ]),
    "archive",
  );
});

// --- Text ---------------------------------------------------------------------------------------------------

test("text is read in its encoding, with its formulas and tabs as they are", async () => {
  const table = '=HYPERLINK("http://x","y"),+1,@SUM(A1)\r\n"a,b",2';
  assert.deepEqual(await texts(bytesOf(table)), {
    names: [":"],
    texts: ['=HYPERLINK("http://x","y"),+1,@SUM(A1)\n"a,b",2'],
    cut: false,
  });
  assert.deepEqual((await texts(bytesOf("\ufeffGrüße 日本語"))).texts, ["Grüße 日本語"]);
  assert.deepEqual((await texts(new Uint8Array([0xff, 0xfe, 0x41, 0, 0xe4, 0]))).texts, ["Aä"]);
  assert.deepEqual((await texts(new Uint8Array([0x47, 0x72, 0xfc, 0xdf, 0x65]))).texts, ["Grüße"]);
  assert.deepEqual((await texts(bytesOf("a\u001b[31mred\u0085b"))).texts, ["a[31mred\nb"]);
});

test("binary that calls itself text is refused", async () => {
  await refused(new Uint8Array([0x4d, 0x5a, 0x90, 0, 3, 0, 0, 0]), "binary");
  const noise = new Uint8Array(10_000).map((_none, at) => ((at * 7_919 + 13) % 255) + 1);
  await refused(noise, "binary");
});

test("a text of 50 MB is read up to a bound, in pieces that name their lines", async () => {
  const line = "0123456789 and some more words in a line\n";
  const made = await texts(bytesOf(line.repeat(Math.ceil(50_000_000 / line.length))));
  assert.equal(made.cut, true);
  assert.equal(made.texts.join("\n").length, MOST_TEXT);
  assert.match(made.names[1] ?? "", /^piece:lines 976-1950$/);
  await refusedSize(MOST_FILE + 1);
});

async function refusedSize(size: number): Promise<void> {
  const large = { size, arrayBuffer: () => Promise.reject(new Error("it was opened")) } as unknown as Blob;
  await assert.rejects(
    read(large, 1_000, () => {}),
    { reason: "too_large" },
  );
}

test("a line of millions of characters is cut, and no letter with it", async () => {
  const made = await texts(bytesOf("😀".repeat(100_001)));
  assert.equal(made.texts.join(""), "😀".repeat(100_001));
  assert.ok(made.texts.every((text) => text.isWellFormed()));
});

// --- Office -------------------------------------------------------------------------------------------------

test("a document of Word is read with its pages, tables and notes, without what was deleted", async () => {
  const cell = (text: string) => `<w:tc>${paragraph(text)}</w:tc>`;
  const body = [
    paragraph("First &amp; foremost"),
    `<w:tbl><w:tr>${cell("a")}${cell("b")}</w:tr></w:tbl>`,
    "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>",
    paragraph("Second", "<w:lastRenderedPageBreak/>"),
    "<mc:AlternateContent xmlns:mc='m'><mc:Choice><w:t>once</w:t></mc:Choice><mc:Fallback><w:t>once</w:t></mc:Fallback></mc:AlternateContent>",
  ].join("");
  const notes: Packed = {
    name: "word/footnotes.xml",
    content: `<w:footnotes xmlns:w="w">${paragraph("a note")}</w:footnotes>`,
  };
  assert.deepEqual(await texts(word(body, [notes])), {
    names: ["page:", "page:", "notes:"],
    texts: ["First & foremost\na \tb", "Second\nonce", "a note"],
    cut: false,
  });
  assert.deepEqual((await texts(word(paragraph("no pages known")))).names, [":"]);
});

test("a workbook is read by sheets, with dates, shared texts, gaps and formulas", async () => {
  const shared: Packed = {
    name: "xl/sharedStrings.xml",
    content:
      "<sst><si><t>Tokyo</t><rPh><t>トウキョウ</t></rPh></si><si><r><t>two </t></r><r><t>parts</t></r></si></sst>",
  };
  const styles: Packed = {
    name: "xl/styles.xml",
    content:
      '<s><numFmts><numFmt numFmtId="164" formatCode="&quot;day&quot; 0.0"/></numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs></s>',
  };
  const rows = [
    '<row><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row>',
    '<row><c r="A2" s="1"><v>45000</v></c><c r="B2" s="1"><v>45000.5</v></c><c r="C2" s="2"><v>45000</v></c></row>',
    '<row><c r="A3"><f>SUM(A1:A2)</f><v>7</v></c><c r="B3"><f>NOW()</f></c><c r="C3" t="b"><v>1</v></c><c r="XFD3" t="inlineStr"><is><t>far</t></is></c></row>',
  ].join("");
  const made = await texts(
    workbook(
      [
        { name: "Städte &lt;1&gt;", rows },
        { name: "Empty", rows: "" },
      ],
      [shared, styles],
    ),
  );
  assert.deepEqual(made.names, ["sheet:Städte <1>", "sheet:Empty"]);
  assert.deepEqual(made.texts, [
    "Tokyo\t\ttwo parts\n2023-03-15\t2023-03-15 12:00:00\t45000\n7\t=NOW()\tTRUE\t\t[XFD3] far",
    "",
  ]);
});

test("slides come in their order, with the speaker's notes", async () => {
  assert.deepEqual(await texts(slides(["one", "two"], "say this")), {
    names: ["slide:", "slide:"],
    texts: ["one", "two\n\nNotes:\nsay this"],
    cut: false,
  });
});

test("OpenDocument is read: texts by pages, spreadsheets by sheets", async () => {
  const body = [
    "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:h>Title</text:h>",
    '<text:p>a<text:s text:c="3"/>b<text:tab/>c<text:soft-page-break/>next</text:p>',
    "<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell><table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table>",
  ].join("");
  assert.deepEqual(await texts(openDocument("text", body)), {
    names: ["page:", "page:"],
    texts: ["Title\na   b\tc", "next\nx\ty"],
    cut: false,
  });
  const cells =
    '<table:table-row><table:table-cell table:number-columns-repeated="16384"/></table:table-row>';
  const sheet = `<table:table table:name="Q1">${cells}<table:table-row><table:table-cell table:number-columns-repeated="2"/><table:table-cell><text:p>z</text:p></table:table-cell></table:table-row></table:table>`;
  assert.deepEqual(await texts(openDocument("spreadsheet", sheet)), {
    names: ["sheet:Q1"],
    texts: ["z"],
    cut: false,
  });
});

// --- Hostile and broken packed files ------------------------------------------------------------------------

test("what unpacks to more than memory has is given up, whatever it says of its size", async () => {
  const blanks = deflateRawSync(bytesOf(" ".repeat(2_000_000)), { finishFlush: constants.Z_FULL_FLUSH });
  const start = deflateRawSync(bytesOf("<worksheet>"), { finishFlush: constants.Z_FULL_FLUSH });
  const raw = joined([start, ...Array.from({ length: 110 }, () => blanks)]);
  assert.ok(raw.length < 500_000);
  const bomb: Packed = { name: "xl/worksheets/sheet1.xml", content: "", raw, size: 10 };
  const book = [
    { name: "xl/workbook.xml", content: '<workbook xmlns:r="r"><sheet name="a" r:id="rId1"/></workbook>' },
    { name: "xl/_rels/workbook.xml.rels", content: relations(["worksheets/sheet1.xml"]) },
    bomb,
  ];
  await refused(zipped(book), "bomb");
});

test("archives in archives are not opened, and too many files are not listed", async () => {
  const nested = zipped([
    { name: "a.zip", content: zipped([{ name: "b.zip", content: withoutParts(1_000) }]) },
  ]);
  await refused(nested, "archive");
  await refused(zipped([{ name: "a", content: "" }], 0xffff), "bomb");
});

test("packed files that are broken, cut or locked end in their words", async () => {
  const good = word(paragraph("text ".repeat(5_000)));
  await refused(good.slice(0, good.length - 30), "broken");
  await refused(good.slice(0, 100), "broken");
  const torn = good.slice();
  torn.fill(0xaa, 60, 120);
  await refused(torn, "broken");
  await refused(zipped([{ name: "word/document.xml", content: "x", method: 99 }]), "broken");
  await refused(zipped([{ name: "word/document.xml", content: "x", flags: 1 }]), "password");
  await refused(zipped([{ name: "word/document.xml", content: "<a><b></a>" }]), "broken");
  const manifest: Packed = { name: "META-INF/manifest.xml", content: "<m><encryption-data/></m>" };
  await refused(openDocument("text", "", [manifest]), "password");
  await refused(workbook([]), "broken");
  await refused(word(paragraph("")), "no_text");
});

test("entities are not expanded: neither a billion laughs nor a file from elsewhere", async () => {
  const laughs = `<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "${"&a;".repeat(50)}">]><d>&b;</d>`;
  await refused(zipped([{ name: "word/document.xml", content: laughs }]), "entities");
  const outside = '<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]><d>&f;</d>';
  await refused(zipped([{ name: "word/document.xml", content: outside }]), "entities");
  await refused(zipped([{ name: "word/document.xml", content: "<d>&nothing;</d>" }]), "broken");
});

test("a spreadsheet of a million cells is read within its bounds", async () => {
  const row = `<row>${Array.from({ length: 100 }, (_none, at) => `<c><v>${at}</v></c>`).join("")}</row>`;
  let seen = 0;
  const book = workbook([{ name: "many", rows: row.repeat(10_000) }]);
  const made = await read(new Blob([book]), 1_000, ({ done }) => {
    seen = done;
  });
  assert.ok(made.kind === "text" && made.parts[0]?.text.split("\n").length === 10_000);
  assert.ok(seen > 10_000_000);
});

test("cells that say that they are far away, or long, cost no more than they hold", async () => {
  const far = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'.repeat(1_000);
  const made = await texts(workbook([{ name: "far", rows: far }]));
  assert.ok((made.texts[0]?.length ?? 0) < 30_000);
  const long = `<row><c t="inlineStr"><is><t>${"x".repeat(1_000_000)}</t></is></c></row>`;
  assert.ok(((await texts(workbook([{ name: "long", rows: long }]))).texts[0]?.length ?? 0) <= 1_000_000);
});
