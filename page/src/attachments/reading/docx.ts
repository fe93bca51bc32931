// Word's documents. Where Word noted where its pages ended, they are pages; else the document is one text.
import type { Sink } from "./sink.ts";
import { attribute, type Handlers, readXml } from "./xml.ts";
import type { Zip } from "./zip.ts";

const DOCUMENT = "word/document.xml";
// The second form of something that stands there already, and its own code.
const SKIPPED = new Set(["Fallback", "instrText", "delText", "rubyPr", "rt"]);

// Hears the paragraphs, tables and breaks of a document, and writes them.
class Body implements Handlers {
  readonly #write: (text: string) => void;
  readonly #page: () => void;
  #skipped = 0;
  #cells = 0;
  #text = 0;

  constructor(write: (text: string) => void, page: () => void) {
    this.#write = write;
    this.#page = page;
  }

  open = (name: string, attributes: Readonly<Record<string, string>>): void => {
    if (SKIPPED.has(name)) this.#skipped += 1;
    if (this.#skipped) return;
    if (name === "t") this.#text += 1;
    else if (name === "tab") this.#write("\t");
    else if (name === "br" || name === "cr")
      this.#write(attribute(attributes, "type") === "page" ? "\n\n" : "\n");
    else if (name === "tc") this.#cells += 1;
    else if (name === "lastRenderedPageBreak") this.#page();
  };

  text = (text: string): void => {
    if (this.#text && !this.#skipped) this.#write(text);
  };

  close = (name: string): void => {
    if (SKIPPED.has(name)) this.#skipped -= 1;
    if (this.#skipped) return;
    if (name === "t") this.#text -= 1;
    else if (name === "p") this.#write(this.#cells ? " " : "\n");
    else if (name === "tr") this.#write("\n");
    else if (name === "tc") {
      this.#cells -= 1;
      this.#write("\t");
    }
  };
}

async function hasPages(zip: Zip): Promise<boolean> {
  let found = false;
  const open = (name: string) => {
    found ||= name === "lastRenderedPageBreak";
  };
  await readXml(zip.stream(DOCUMENT), { open });
  return found;
}

export async function docx(zip: Zip, sink: Sink): Promise<void> {
  const write = (text: string) => sink.write(text);
  const paged = await hasPages(zip);
  sink.begin(paged ? "page" : "");
  await readXml(zip.stream(DOCUMENT), new Body(write, () => sink.begin("page")));
  for (const notes of ["word/footnotes.xml", "word/endnotes.xml"]) {
    if (!zip.has(notes)) continue;
    sink.begin("notes");
    await readXml(zip.stream(notes), new Body(write, () => {}));
  }
}
