// The text of a PDF, page by page. pdf.js runs within our own worker: it starts none of its own, evaluates nothing, and
// fetches neither fonts nor tables.
import { getDocument, type PDFPageProxy, VerbosityLevel } from "pdfjs-dist/legacy/build/pdf.mjs";
// Read within this thread, it announces itself to the part above.
import "pdfjs-dist/legacy/build/pdf.worker.mjs";
import { MOST_PAGES } from "../limits.ts";
import { Enough, type Sink } from "./sink.ts";
import { Unreadable } from "./unreadable.ts";

type Told = (done: number, of: number) => void;

function opened(data: Uint8Array) {
  return getDocument({
    data,
    verbosity: VerbosityLevel.ERRORS,
    useWorkerFetch: false,
    useWasm: false,
    useSystemFonts: false,
    disableFontFace: true,
    isOffscreenCanvasSupported: false,
    isImageDecoderSupported: false,
    enableXfa: false,
  });
}

async function textOf(page: PDFPageProxy): Promise<string> {
  const { items } = await page.getTextContent();
  return items.map((item) => ("str" in item ? `${item.str}${item.hasEOL ? "\n" : ""}` : "")).join("");
}

// Reads the first pages, up to a bound; raises Enough where there are more. Raises Unreadable.
export async function pdf(bytes: Uint8Array, sink: Sink, told: Told): Promise<void> {
  const loading = opened(bytes);
  let found = false;
  try {
    const file = await loading.promise;
    const read = Math.min(file.numPages, MOST_PAGES);
    for (let number = 1; number <= read; number += 1) {
      sink.begin("page");
      const page = await file.getPage(number);
      const text = await textOf(page);
      found ||= Boolean(text.trim());
      sink.write(text);
      page.cleanup();
      told(number, read);
    }
    // A scanned page is a picture.
    if (!found) throw new Unreadable("no_text");
    if (read < file.numPages) throw new Enough();
  } catch (error) {
    if (error instanceof Unreadable || error instanceof Enough) throw error;
    throw new Unreadable(
      error instanceof Error && error.name === "PasswordException" ? "password" : "broken",
    );
  } finally {
    loading.destroy().catch(() => {});
  }
}
