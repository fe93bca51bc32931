// Excel's workbooks: each sheet as lines of cells with tabs between them. What is shown of a formula is its last result.
import { isDate, shownDate } from "./dates.ts";
import { related } from "./related.ts";
import type { Sink } from "./sink.ts";
import { Unreadable } from "./unreadable.ts";
import { type Attributes, attribute, readXml } from "./xml.ts";
import type { Zip } from "./zip.ts";

const WORKBOOK = "xl/workbook.xml";
// A cell that stands further to the right than this many empty ones is named, not filled up to.
const GAP = 20;
// Characters of the texts that cells share.
const MOST_SHARED = 20_000_000;
// Characters of one cell.
const MOST_CELL = 100_000;

interface Book {
  sheets: { name: string; path: string }[];
  shared: string[];
  // By a cell's style: whether its number is a date.
  dates: boolean[];
  from1904: boolean;
}

async function workbook(zip: Zip): Promise<Book> {
  const names = await related(zip, WORKBOOK);
  const book: Book = { sheets: [], shared: [], dates: [], from1904: false };
  await readXml(zip.stream(WORKBOOK), {
    open: (name, attributes) => {
      if (name === "workbookPr") book.from1904 = /^(1|true)$/.test(attribute(attributes, "date1904"));
      if (name !== "sheet") return;
      const path = names.get(attribute(attributes, "id"))?.path ?? "";
      book.sheets.push({ name: attribute(attributes, "name"), path });
    },
  });
  if (zip.has("xl/sharedStrings.xml")) book.shared = await sharedTexts(zip);
  if (zip.has("xl/styles.xml")) book.dates = await dateStyles(zip);
  return book;
}

async function sharedTexts(zip: Zip): Promise<string[]> {
  const found: string[] = [];
  let text = "";
  let [inside, reading, size] = [false, 0, 0];
  await readXml(zip.stream("xl/sharedStrings.xml"), {
    open: (name) => {
      if (name === "si") text = "";
      // How Japanese is read aloud stands beside it.
      else if (name === "rPh") reading += 1;
      else if (name === "t") inside = true;
    },
    text: (piece) => {
      if (inside && !reading) text += piece;
    },
    close: (name) => {
      if (name === "t") inside = false;
      else if (name === "rPh") reading -= 1;
      else if (name === "si") {
        size += text.length;
        found.push(size > MOST_SHARED ? "" : text);
      }
    },
  });
  return found;
}

async function dateStyles(zip: Zip): Promise<boolean[]> {
  const formats = new Map<number, string>();
  const found: boolean[] = [];
  let within = false;
  await readXml(zip.stream("xl/styles.xml"), {
    open: (name, attributes) => {
      const id = Number(attribute(attributes, "numFmtId"));
      if (name === "numFmt") formats.set(id, attribute(attributes, "formatCode"));
      else if (name === "cellXfs") within = true;
      else if (name === "xf" && within) found.push(isDate(id, formats.get(id) ?? ""));
    },
    close: (name) => {
      if (name === "cellXfs") within = false;
    },
  });
  return found;
}

// The place of a column by its letters, from zero on; -1 where there are none.
function columnOf(reference: string): number {
  let column = 0;
  for (const letter of /^[A-Z]{1,3}/.exec(reference)?.[0] ?? "")
    column = column * 26 + letter.charCodeAt(0) - 64;
  return column - 1;
}

class Sheet {
  readonly #book: Book;
  readonly #sink: Sink;
  #column = 0;
  #cell: Attributes = {};
  #value = "";
  #formula = "";
  #into: "value" | "formula" | "" = "";
  #reading = 0;

  constructor(book: Book, sink: Sink) {
    this.#book = book;
    this.#sink = sink;
  }

  open = (name: string, attributes: Attributes): void => {
    if (name === "row") this.#column = 0;
    else if (name === "c") [this.#cell, this.#value, this.#formula] = [attributes, "", ""];
    else if (name === "v" || name === "t") this.#into = "value";
    else if (name === "f") this.#into = "formula";
    else if (name === "rPh") this.#reading += 1;
  };

  text = (text: string): void => {
    if (this.#value.length + this.#formula.length > MOST_CELL) return;
    if (this.#into === "value" && !this.#reading) this.#value += text;
    else if (this.#into === "formula") this.#formula += text;
  };

  close = (name: string): void => {
    if (name === "c") this.#write();
    else if (name === "row") this.#sink.write("\n");
    else if (name === "v" || name === "t" || name === "f") this.#into = "";
    else if (name === "rPh") this.#reading -= 1;
  };

  #write(): void {
    const reference = this.#cell.r ?? "";
    const column = Math.max(columnOf(reference), this.#column);
    const text = this.#shown().replace(/\s+/g, " ").trim();
    if (!text) return;
    const gap = column - this.#column;
    this.#sink.write(gap > GAP ? `\t[${reference}] ` : "\t".repeat(gap));
    this.#sink.write(`${text}\t`);
    this.#column = column + 1;
  }

  #shown(): string {
    const { t: type, s: style } = this.#cell;
    const value = this.#value;
    if (!value && this.#formula) return `=${this.#formula}`;
    if (type === "s") return this.#book.shared[Number(value)] ?? "";
    if (type === "b") return value === "1" ? "TRUE" : "FALSE";
    if ((!type || type === "n") && value && this.#book.dates[Number(style)]) {
      return shownDate(Number(value), this.#book.from1904) || value;
    }
    return value;
  }
}

export async function xlsx(zip: Zip, sink: Sink): Promise<void> {
  const book = await workbook(zip);
  if (!book.sheets.length) throw new Unreadable("broken");
  for (const { name, path } of book.sheets) {
    sink.begin("sheet", name);
    // A sheet with a chart alone has no cells.
    if (zip.has(path)) await readXml(zip.stream(path), new Sheet(book, sink));
  }
}
