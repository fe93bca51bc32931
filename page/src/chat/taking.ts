// Takes in conversations from files: this page's own exports and other products'. The code that reads them is loaded
// when it is first needed.
import { signal } from "@preact/signals";
import { beside } from "../markdown/lazy.ts";
import { asPersona, asPrompt, fields, list } from "../store/rows.ts";
import { t } from "../texts.ts";
import type { Found } from "../transfer/found.ts";
import type * as transfer from "../transfer/read.ts";
import { folderNamed } from "./folders.ts";
import { find, reload, takeIn, tellOfList } from "./library.ts";
import { personas, prompts, putOn, set, settings } from "./shelves.ts";

// The file beside this one in which the reading is.
declare const TRANSFER_READER: string;

async function reader(): Promise<typeof transfer> {
  // A variable: it is not to be built in.
  const address = beside(TRANSFER_READER);
  return import(address);
}

export interface Taking {
  name: string;
  // From 0 to 1.
  part: number;
  // New conversations, those that have got more messages, those that were here already, new messages.
  fresh: number;
  grown: number;
  known: number;
  messages: number;
  // Files that the export names and that did not come.
  lost: number;
  // Conversations that have nothing in them, that no form fits, that are too large.
  empty: number;
  unknown: number;
  large: number;
  // Personas, prompts and settings.
  beside: number;
  // "" while it goes on. full, failed: the browser could not store more. missing: the code could not be loaded.
  ending: transfer.Ending | "full" | "failed" | "missing" | "";
  at: number;
}

export const taking = signal<Taking | null>(null);

let stopping = new AbortController();

export function cancel(): void {
  stopping.abort();
}

export async function takeFile(file: File): Promise<void> {
  if (taking.value?.ending === "") return;
  stopping = new AbortController();
  const none = {
    fresh: 0,
    grown: 0,
    known: 0,
    messages: 0,
    lost: 0,
    empty: 0,
    unknown: 0,
    large: 0,
    beside: 0,
  };
  taking.value = { name: file.name, part: 0, ...none, ending: "", at: 0 };
  const note = (changes: Partial<Taking>) => {
    if (taking.value) taking.value = { ...taking.value, ...changes };
  };
  let ending: Taking["ending"] = "failed";
  const code = await reader().catch(() => null);
  if (!code) {
    note({ ending: "missing" });
    return;
  }
  try {
    let failed: Taking["ending"] = "";
    const result = await code.read(file, {
      signal: stopping.signal,
      onProgress: (part) => note({ part }),
      onFound: async (found) => {
        failed = await takeOne(found, code, note);
        return !failed;
      },
    });
    await takeBeside(result, note);
    note({ unknown: result.unknown, large: result.large, at: result.at });
    ending = failed || result.ending;
  } catch {
    // Whatever it was, what came before is there.
  }
  await reload();
  tellOfList();
  note({ ending });
}

// Says why no more can be stored; "" where all is well.
async function takeOne(
  found: Found,
  code: typeof transfer,
  note: (changes: Partial<Taking>) => void,
): Promise<Taking["ending"]> {
  const before = taking.value;
  if (!before) return "cancelled";
  if (!found.messages.length) {
    note({ empty: before.empty + 1 });
    return "";
  }
  const settled = await code.settle(found);
  const [row] = settled.conversations;
  if (row) row.title ||= t("untitled");
  const isNew = row !== undefined && !known(row.id);
  if (isNew && row) row.folder = found.folder ? (await folderNamed(found.folder)).id : "";
  try {
    const messages = await takeIn(settled);
    const kind = isNew ? "fresh" : messages ? "grown" : "known";
    note({
      [kind]: before[kind] + 1,
      messages: before.messages + messages,
      lost: before.lost + (isNew ? found.lost : 0),
    });
    if (row) here.add(row.id);
    return "";
  } catch (error) {
    const full = error instanceof DOMException && error.name === "QuotaExceededError";
    return full ? "full" : "failed";
  }
}

// What this page has taken in, before the list is read anew.
const here = new Set<string>();

function known(id: string): boolean {
  return here.has(id) || find(id) !== undefined;
}

// What stands beside the conversations: what is here already stays.
async function takeBeside(
  { rest }: transfer.Result,
  note: (changes: Partial<Taking>) => void,
): Promise<void> {
  let beside = 0;
  for (const row of list(rest.personas).map(asPersona)) {
    if (!row.id || !row.name || personas.value.some((one) => one.id === row.id)) continue;
    await putOn("personas", row);
    beside += 1;
  }
  for (const row of list(rest.prompts).map(asPrompt)) {
    if (!row.id || !row.name || prompts.value.some((one) => one.id === row.id)) continue;
    await putOn("prompts", row);
    beside += 1;
  }
  for (const [name, value] of Object.entries(fields(rest.settings))) {
    if (settings.value.has(name)) continue;
    set(name, value);
    beside += 1;
  }
  note({ beside });
}
