// Files as people attach them, made here: packed ones with whatever they say of themselves, and a PDF.
import { crc32, deflateRawSync } from "node:zlib";

type Bytes = Uint8Array<ArrayBuffer>;

export interface Packed {
  name: string;
  content: string | Uint8Array;
  // What is said of it; what is left out is said as it is.
  flags?: number;
  method?: number;
  size?: number;
  // The packed bytes, where they are to be others.
  raw?: Uint8Array;
}

export function bytesOf(text: string): Bytes {
  return new TextEncoder().encode(text) as Bytes;
}

export function joined(pieces: readonly Uint8Array[]): Bytes {
  const made = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    made.set(piece, at);
    at += piece.length;
  }
  return made;
}

function header(signature: number, fields: readonly [number, 2 | 4][]): Uint8Array {
  const made = Buffer.alloc(4 + fields.reduce((sum, [, width]) => sum + width, 0));
  made.writeUInt32LE(signature);
  let at = 4;
  for (const [value, width] of fields) {
    if (width === 2) made.writeUInt16LE(value, at);
    else made.writeUInt32LE(value, at);
    at += width;
  }
  return made;
}

export function zipped(files: readonly Packed[], count = files.length): Bytes {
  const pieces: Uint8Array[] = [];
  const listed: Uint8Array[] = [];
  let at = 0;
  for (const { name, content, flags = 0, method = 8, size, raw } of files) {
    const plain = typeof content === "string" ? bytesOf(content) : content;
    const packed = raw ?? (method === 8 ? deflateRawSync(plain) : plain);
    const said: [number, 2 | 4][] = [
      [20, 2],
      [flags, 2],
      [method, 2],
      [0, 4],
      [crc32(plain), 4],
      [packed.length, 4],
      [size ?? plain.length, 4],
      [bytesOf(name).length, 2],
      [0, 2],
    ];
    const local = joined([header(0x04034b50, said), bytesOf(name), packed]);
    const more: [number, 2 | 4][] = [
      [0, 2],
      [0, 2],
      [0, 2],
      [0, 4],
      [at, 4],
    ];
    listed.push(header(0x02014b50, [[20, 2], ...said, ...more]), bytesOf(name));
    pieces.push(local);
    at += local.length;
  }
  const list = joined(listed);
  const end: [number, 2 | 4][] = [
    [0, 2],
    [0, 2],
    [count, 2],
    [count, 2],
    [list.length, 4],
    [at, 4],
    [0, 2],
  ];
  return joined([...pieces, list, header(0x06054b50, end)]);
}

// --- Office -----------------------------------------------------------------------------------------------

const XML = '<?xml version="1.0" encoding="UTF-8"?>';

export function relations(targets: readonly string[]): string {
  const rows = targets.map((target, at) => {
    const type = target.includes("notes") ? "notesSlide" : "part";
    return `<Relationship Id="rId${at + 1}" Type="http://x/${type}" Target="${target}"/>`;
  });
  return `${XML}<Relationships xmlns="r">${rows.join("")}</Relationships>`;
}

export function word(body: string, more: readonly Packed[] = []): Bytes {
  const content = `${XML}<w:document xmlns:w="w"><w:body>${body}</w:body></w:document>`;
  return zipped([{ name: "word/document.xml", content }, ...more]);
}

export function paragraph(text: string, before = ""): string {
  return `<w:p><w:r>${before}<w:t>${text}</w:t></w:r></w:p>`;
}

export interface Sheet {
  name: string;
  rows: string;
}

export function workbook(sheets: readonly Sheet[], more: readonly Packed[] = []): Bytes {
  const rows = sheets.map(
    ({ name }, at) => `<sheet name="${name}" sheetId="${at + 1}" r:id="rId${at + 1}"/>`,
  );
  const book = `${XML}<workbook xmlns="s" xmlns:r="r"><sheets>${rows.join("")}</sheets></workbook>`;
  return zipped([
    { name: "xl/workbook.xml", content: book },
    {
      name: "xl/_rels/workbook.xml.rels",
      content: relations(sheets.map((_s, at) => `worksheets/sheet${at + 1}.xml`)),
    },
    ...sheets.map(({ rows: content }, at) => ({
      name: `xl/worksheets/sheet${at + 1}.xml`,
      content: `${XML}<worksheet xmlns="s"><sheetData>${content}</sheetData></worksheet>`,
    })),
    ...more,
  ]);
}

export function slides(texts: readonly string[], notes = ""): Bytes {
  const ids = texts.map((_text, at) => `<p:sldId id="${256 + at}" r:id="rId${at + 1}"/>`);
  const files: Packed[] = [
    {
      name: "ppt/presentation.xml",
      content: `${XML}<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst>${ids.join("")}</p:sldIdLst></p:presentation>`,
    },
    // The order is that of the presentation, not that of the names.
    {
      name: "ppt/_rels/presentation.xml.rels",
      content: relations(texts.map((_t, at) => `slides/slide${texts.length - at}.xml`)),
    },
  ];
  const drawn = (text: string) =>
    `${XML}<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:r><a:t>${text}</a:t></a:r></a:p></p:sld>`;
  for (const [at, text] of texts.entries()) {
    files.push({ name: `ppt/slides/slide${texts.length - at}.xml`, content: drawn(text) });
  }
  if (notes) {
    files.push({
      name: "ppt/slides/_rels/slide1.xml.rels",
      content: relations(["../notesSlides/notes1.xml"]),
    });
    files.push({ name: "ppt/notesSlides/notes1.xml", content: drawn(notes) });
  }
  return zipped(files);
}

export function openDocument(kind: string, body: string, more: readonly Packed[] = []): Bytes {
  const content = `${XML}<o:document-content xmlns:o="o" xmlns:text="t" xmlns:table="tb" xmlns:draw="d"><o:body>${body}</o:body></o:document-content>`;
  const type = `application/vnd.oasis.opendocument.${kind}`;
  return zipped([{ name: "mimetype", content: type, method: 0 }, { name: "content.xml", content }, ...more]);
}

// --- PDF --------------------------------------------------------------------------------------------------

// A PDF with a line of text on each page. `trailer` stands in its last dictionary.
export function pdfOf(pages: readonly string[], trailer = ""): Bytes {
  const objects = ["<</Type/Catalog/Pages 2 0 R>>", ""];
  objects.push("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>");
  const kids: string[] = [];
  for (const text of pages) {
    const drawing = text ? `BT /F 12 Tf 20 100 Td (${text}) Tj ET` : "";
    objects.push(`<</Length ${drawing.length}>>stream\n${drawing}\nendstream`);
    const content = objects.length;
    objects.push(
      `<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents ${content} 0 R/Resources<</Font<</F 3 0 R>>>>>>`,
    );
    kids.push(`${objects.length} 0 R`);
  }
  objects[1] = `<</Type/Pages/Count ${pages.length}/Kids[${kids.join(" ")}]>>`;
  let made = "%PDF-1.4\n";
  const places = objects.map((object, at) => {
    const place = made.length;
    made += `${at + 1} 0 obj${object}endobj\n`;
    return `${String(place).padStart(10, "0")} 00000 n \n`;
  });
  const table = `xref\n0 ${places.length + 1}\n0000000000 65535 f \n${places.join("")}`;
  const last = `trailer<</Size ${places.length + 1}/Root 1 0 R${trailer}>>\nstartxref\n${made.length}\n%%EOF`;
  return bytesOf(made + table + last);
}
