// PowerPoint's slides, in their order, each with the speaker's notes.
import { related } from "./related.ts";
import type { Sink } from "./sink.ts";
import { Unreadable } from "./unreadable.ts";
import { attribute, readXml } from "./xml.ts";
import type { Zip } from "./zip.ts";

const PRESENTATION = "ppt/presentation.xml";

async function slides(zip: Zip): Promise<string[]> {
  const names = await related(zip, PRESENTATION);
  const found: string[] = [];
  await readXml(zip.stream(PRESENTATION), {
    open: (name, attributes) => {
      if (name !== "sldId") return;
      // It has two ids; the one with a prefix is that of its file.
      const id = Object.entries(attributes).find(([key]) => key.endsWith(":id"))?.[1] ?? "";
      const slide = names.get(id);
      if (slide) found.push(slide.path);
    },
  });
  return found;
}

async function text(zip: Zip, path: string, sink: Sink): Promise<void> {
  let inside = 0;
  let field = "";
  await readXml(zip.stream(path), {
    open: (name, attributes) => {
      if (name === "t") inside += 1;
      else if (name === "br") sink.write("\n");
      else if (name === "fld") field = attribute(attributes, "type");
    },
    text: (piece) => {
      // A slide's own number is no text of it.
      if (inside && field !== "slidenum") sink.write(piece);
    },
    close: (name) => {
      if (name === "t") inside -= 1;
      else if (name === "fld") field = "";
      else if (name === "p") sink.write("\n");
      else if (name === "tc") sink.write("\t");
    },
  });
}

export async function pptx(zip: Zip, sink: Sink): Promise<void> {
  for (const path of await slides(zip)) {
    if (!zip.has(path)) throw new Unreadable("broken");
    sink.begin("slide");
    await text(zip, path, sink);
    for (const one of (await related(zip, path)).values()) {
      if (one.type !== "notesSlide" || !zip.has(one.path)) continue;
      sink.write("\nNotes:\n");
      await text(zip, one.path, sink);
    }
  }
}
