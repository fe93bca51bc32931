// OpenDocument: texts, and spreadsheets and presentations too, since their content is written in the same way.
import type { Sink } from "./sink.ts";
import { Unreadable } from "./unreadable.ts";
import { type Attributes, attribute, readXml } from "./xml.ts";
import type { Zip } from "./zip.ts";

const CONTENT = "content.xml";
const MANIFEST = "META-INF/manifest.xml";
// What was deleted, what others remarked, and what the program draws by itself.
const SKIPPED = new Set(["tracked-changes", "annotation", "forms", "sequence-decls", "ruby-text"]);
const KINDS = ["text", "spreadsheet", "presentation"] as const;
// Cells and blanks may be said to be there so many times.
const MOST_REPEATED = 20;
// Characters that are kept of one cell.
const MOST_CELL = 100_000;

type Kind = (typeof KINDS)[number];

async function kindOf(zip: Zip): Promise<Kind> {
  const decoder = new TextDecoder();
  let type = "";
  for await (const piece of zip.stream("mimetype"))
    type += decoder.decode(piece, { stream: true }).slice(0, 200);
  const kind = KINDS.find((one) => type.trim() === `application/vnd.oasis.opendocument.${one}`);
  if (!kind) throw new Unreadable("archive");
  return kind;
}

async function locked(zip: Zip): Promise<boolean> {
  let found = false;
  const open = (name: string) => {
    found ||= name === "encryption-data";
  };
  if (zip.has(MANIFEST)) await readXml(zip.stream(MANIFEST), { open });
  return found;
}

function times(attributes: Attributes, name: string): number {
  return Math.min(Math.max(Math.trunc(Number(attribute(attributes, name)) || 1), 1), MOST_REPEATED);
}

class Content {
  readonly #kind: Kind;
  readonly #sink: Sink;
  #skipped = 0;
  #cells = 0;
  #paragraphs = 0;
  #repeated: number[] = [];
  #cell = "";
  // Tabs of empty cells, written when something follows.
  #empty = 0;

  constructor(kind: Kind, sink: Sink) {
    this.#kind = kind;
    this.#sink = sink;
  }

  #write(text: string): void {
    if (!this.#cells) this.#sink.write(text);
    else if (this.#cell.length < MOST_CELL) this.#cell += text;
  }

  open = (name: string, attributes: Attributes): void => {
    if (SKIPPED.has(name)) this.#skipped += 1;
    if (this.#skipped) return;
    if (name === "p" || name === "h") this.#paragraphs += 1;
    else if (name === "tab") this.#write("\t");
    else if (name === "line-break") this.#write("\n");
    else if (name === "s") this.#write(" ".repeat(times(attributes, "c")));
    else if (name === "soft-page-break" && !this.#cells) this.#page();
    else if (name === "table" && this.#kind === "spreadsheet") this.#sheet(attribute(attributes, "name"));
    else if (name === "page" && this.#kind === "presentation")
      this.#sink.begin("slide", attribute(attributes, "name"));
    else if (name === "table-cell" || name === "covered-table-cell") {
      this.#cells += 1;
      this.#repeated.push(times(attributes, "number-columns-repeated"));
    }
  };

  #page(): void {
    if (this.#kind === "text") this.#sink.begin("page");
  }

  #sheet(name: string): void {
    this.#sink.begin("sheet", name);
  }

  text = (text: string): void => {
    if (this.#paragraphs && !this.#skipped) this.#write(text);
  };

  close = (name: string): void => {
    if (SKIPPED.has(name)) this.#skipped -= 1;
    if (this.#skipped) return;
    if (name === "p" || name === "h") {
      this.#paragraphs -= 1;
      this.#write(this.#cells ? " " : "\n");
    } else if (name === "table-cell" || name === "covered-table-cell") this.#endCell();
    else if (name === "table-row") {
      this.#empty = 0;
      this.#write("\n");
    }
  };

  #endCell(): void {
    this.#cells -= 1;
    const repeated = this.#repeated.pop() ?? 1;
    // A cell within a cell belongs to the outer one.
    if (this.#cells) return;
    const text = this.#cell.replace(/\s+/g, " ").trim();
    this.#cell = "";
    if (!text) {
      this.#empty += repeated;
      return;
    }
    this.#sink.write("\t".repeat(Math.min(this.#empty, MOST_REPEATED)));
    this.#empty = 0;
    for (let time = 0; time < repeated; time += 1) this.#sink.write(`${text}\t`);
  }
}

async function hasPages(zip: Zip): Promise<boolean> {
  let found = false;
  const open = (name: string) => {
    found ||= name === "soft-page-break";
  };
  await readXml(zip.stream(CONTENT), { open });
  return found;
}

export async function odf(zip: Zip, sink: Sink): Promise<void> {
  const kind = await kindOf(zip);
  if (await locked(zip)) throw new Unreadable("password");
  if (kind === "text") sink.begin((await hasPages(zip)) ? "page" : "");
  await readXml(zip.stream(CONTENT), new Content(kind, sink));
}
