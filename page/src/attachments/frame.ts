// How the text of a file stands in what is sent. Its lines begin with a mark that was drawn by chance when the file was
// attached and does not occur in its text: so no text can end its own frame, or begin another. docs/attachments.md
// describes it.
import type { Page } from "../store/rows.ts";
import { named } from "./parts.ts";

export interface Framed {
  // A random id: the mark comes from it, so a file has the same mark each time that it is sent.
  id: string;
  name: string;
  pages: readonly Page[];
  // The positions of the pages that are sent; absent for all.
  chosen?: readonly number[];
  // The file has more text than was kept of it.
  cut?: boolean;
}

const MARK_LENGTH = 16;

// A mark that occurs nowhere in the file.
export function markOf({ id, name, pages }: Framed): string {
  let drawn = id;
  for (;;) {
    const mark = drawn.replace(/[^0-9a-f]/g, "").slice(0, MARK_LENGTH);
    const used =
      name.includes(mark) || pages.some((page) => page.name.includes(mark) || page.text.includes(mark));
    if (mark.length === MARK_LENGTH && !used) return mark;
    // Only a file that was imported together with its id comes here.
    drawn = crypto.randomUUID();
  }
}

export function frame(file: Framed): string {
  const { name, pages, chosen, cut } = file;
  const mark = markOf(file);
  const sent = chosen ?? pages.map((_page, at) => at);
  const left: string[] = [];
  if (sent.length < pages.length) left.push(`only parts ${named(sent)} of ${pages.length} are here`);
  if (cut) left.push("the end of the file was left out");
  const lines = [
    `[${mark} begin of the file ${JSON.stringify(name)}${left.map((one) => `; ${one}`).join("")}]`,
  ];
  for (const at of sent) {
    const page = pages[at];
    if (!page) continue;
    if (page.name) lines.push(`[${mark} ${page.name}]`);
    lines.push(page.text);
  }
  lines.push(`[${mark} end of the file]`);
  return lines.join("\n");
}
