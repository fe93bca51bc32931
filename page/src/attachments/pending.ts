// The files beside what is typed and not sent: they belong to their conversation's draft, and come back with it.
import { signal } from "@preact/signals";
import { mostBody } from "../api/api.ts";
import * as library from "../chat/library.ts";
import { say } from "../chat/said.ts";
import { type Attached, type Attachment, type Message, NEW } from "../store/rows.ts";
import { t } from "../texts.ts";
import type { Form } from "./kinds.ts";
import { MOST_FILES } from "./limits.ts";
import { plainName } from "./names.ts";
import { pagesOf } from "./parts.ts";
import { readFile } from "./reader.ts";
import { sizeOf } from "./reading/picture.ts";
import type { Progress, Reading } from "./reading/read.ts";
import { type Reason, Unreadable } from "./reading/unreadable.ts";
import { words } from "./reasons.ts";

export interface Pending {
  // Of its Attachment, as soon as there is one.
  id: string;
  name: string;
  size: number;
  // null until it was read.
  row: Attachment | null;
  // What is sent of its pages; absent for all.
  chosen?: readonly number[];
  progress: Progress | null;
  // Why it cannot be read; "" where it can.
  reason: Reason | "";
  // Of a picture, in pixels.
  width: number;
  height: number;
}

// By conversation, NEW for a new one; and for the message that is edited.
export const pending = signal<ReadonlyMap<string, readonly Pending[]>>(new Map());
// The place whose files are on view.
export const place = signal(NEW);

// The longest side of a picture: as it is attached, and what a reader may choose.
export const SIDES = [2_048, 1_536, 1_024, 512] as const;
const SIDE: number = SIDES[1];
// A picture may fill so much of a request at most; it is drawn smaller until it does.
const SHARE = 0.5;

const stops = new Map<string, () => void>();
const EDITED = "edited ";
// The messages that are edited, by place.
const edited = new Map<string, Message>();

export function here(): readonly Pending[] {
  return pending.value.get(place.value) ?? [];
}

function put(where: string, list: readonly Pending[]): void {
  pending.value = new Map(pending.value).set(where, list);
}

function change(where: string, id: string, changes: Partial<Pending>): void {
  const list = pending.value.get(where) ?? [];
  put(
    where,
    list.map((one) => (one.id === id ? { ...one, ...changes } : one)),
  );
}

// --- Attaching --------------------------------------------------------------------------------------------

let queue: Promise<unknown> = Promise.resolve();

// Reads files one after another, and stores each when it was read.
export function attach(files: readonly File[]): void {
  const where = place.value;
  for (const file of files) {
    const list = pending.value.get(where) ?? [];
    const one = waiting(plainName(file.name), file.size);
    if (list.filter(({ reason }) => !reason).length >= MOST_FILES) one.reason = "too_many";
    put(where, [...list, one]);
    if (one.reason) say(failure(one));
    else queue = queue.then(() => take(where, one, file));
  }
}

// Says of something that is no file, such as a folder, why it cannot be attached.
export function refuse(name: string, reason: Reason): void {
  const one = { ...waiting(plainName(name), 0), reason };
  put(place.value, [...here(), one]);
  say(failure(one));
}

function waiting(name: string, size: number): Pending {
  return { id: crypto.randomUUID(), name, size, row: null, progress: null, reason: "", width: 0, height: 0 };
}

export function failure({ name, reason }: Pending): string {
  return reason ? `${name}: ${words(reason)}` : "";
}

function isThere(where: string, id: string): boolean {
  return Boolean(pending.value.get(where)?.some((one) => one.id === id));
}

async function take(where: string, one: Pending, file: File): Promise<void> {
  if (!isThere(where, one.id)) return;
  try {
    const reading = await fittingReading(one.id, file, (progress) => change(where, one.id, { progress }));
    const row = rowOf(where, one, file, reading);
    const [width, height] = reading.kind === "picture" ? [reading.width, reading.height] : [0, 0];
    if (!isThere(where, one.id)) return;
    await library.keepAttachment(row);
    change(where, one.id, { row, width, height, progress: null });
    store(where);
    say(row.cut ? t("attach_cut", { name: one.name }) : t("attached", { name: one.name }));
  } catch (error) {
    // A reader who has taken it away knows.
    if (!(error instanceof Unreadable)) return;
    change(where, one.id, { reason: error.reason, progress: null });
    say(failure({ ...one, reason: error.reason }));
  } finally {
    stops.delete(one.id);
  }
}

async function fittingReading(
  id: string,
  file: Blob,
  told: (progress: Progress) => void,
  side: number = SIDE,
): Promise<Reading> {
  const reader = readFile(file, side, told);
  stops.set(id, reader.stop);
  const reading = await reader.reading;
  if (reading.kind !== "picture" || side < 64) return reading;
  // In a request, three bytes are four letters.
  const large = (reading.bytes.byteLength * 4) / 3 > mostBody() * SHARE;
  return large ? fittingReading(id, file, told, Math.floor(side * 0.7)) : reading;
}

function rowOf(where: string, one: Pending, file: File, reading: Reading): Attachment {
  const { id, name, size } = one;
  const conversation = edited.get(where)?.conversation ?? where;
  const row = { id, conversation, name, size, created: Date.now() };
  if (reading.kind === "picture") {
    return {
      ...row,
      kind: "image",
      type: reading.type,
      bytes: new Blob([reading.bytes], { type: reading.type }),
    };
  }
  if (reading.kind === "sound") {
    const type = reading.format === "wav" ? "audio/wav" : "audio/mpeg";
    return { ...row, kind: "audio", type, bytes: new Blob([reading.bytes], { type }) };
  }
  const pages = pagesOf(reading.parts);
  return { ...row, kind: "text", type: file.type, pages, ...(reading.cut ? { cut: true as const } : {}) };
}

// --- Changing ---------------------------------------------------------------------------------------------

// Takes a file away from what is to be sent. What is still being read is ended.
export function detach(id: string): void {
  const where = place.value;
  put(
    where,
    here().filter((one) => one.id !== id),
  );
  stops.get(id)?.();
  // What an edited message has, the old message has too.
  if (!edited.has(where)) library.removeAttachments([id]);
  store(where);
}

export function choosePages(id: string, chosen: readonly number[] | undefined): void {
  const list = here().map((one) => {
    if (one.id !== id) return one;
    const { chosen: _before, ...rest } = one;
    return chosen && chosen.length < (one.row?.pages?.length ?? 0) ? { ...rest, chosen } : rest;
  });
  put(place.value, list);
  store(place.value);
}

// Draws a picture anew with its longest side at most so many pixels, and returns it; null where it stays as it is.
export async function resize(id: string, side: number): Promise<Attachment | null> {
  const where = place.value;
  const before = here().find((one) => one.id === id)?.row;
  if (!before?.bytes) return null;
  try {
    const made = await fittingReading(id, before.bytes, () => {}, side);
    if (made.kind !== "picture" || !isThere(where, id)) return null;
    // The message that is edited has the picture too, as it was.
    const own = edited.has(where) ? crypto.randomUUID() : id;
    const bytes = new Blob([made.bytes], { type: made.type });
    const row: Attachment = { ...before, id: own, type: made.type, bytes };
    await library.keepAttachment(row);
    change(where, id, { id: own, row, width: made.width, height: made.height });
    store(where);
    return row;
  } catch {
    return null;
  } finally {
    stops.delete(id);
  }
}

// --- With the draft ---------------------------------------------------------------------------------------

function attached({ id, name, size, row, chosen }: Pending): Attached[] {
  if (!row) return [];
  const made: Attached = { id, name, kind: row.kind, size };
  return [chosen ? { ...made, pages: [...chosen] } : made];
}

function store(where: string): void {
  const attachments = (pending.value.get(where) ?? []).flatMap(attached);
  const message = edited.get(where);
  if (message) library.changeDraft(message.conversation, { edit: { message: message.id, attachments } });
  else library.changeDraft(where, { attachments });
  library.askToKeep(false);
}

async function known(list: readonly Attached[]): Promise<Pending[]> {
  const found: Pending[] = [];
  for (const { id, name, size, pages } of list) {
    const row = await library.attachment(id);
    if (!row) continue;
    const one: Pending = { ...waiting(name, size), id, row, ...(pages ? { chosen: pages } : {}) };
    if (row.kind === "image" && row.bytes) Object.assign(one, await pixels(row.bytes));
    found.push(one);
  }
  return found;
}

// Of a picture that was imported and cannot be measured: none.
async function pixels(bytes: Blob): Promise<{ width: number; height: number }> {
  const head = new Uint8Array(await bytes.slice(0, 65_536).arrayBuffer());
  try {
    return sizeOf(bytes.type.slice("image/".length) as Form, head);
  } catch {
    return { width: 0, height: 0 };
  }
}

// Shows the files of a conversation's draft; NEW for a new one.
export async function show(where: string): Promise<void> {
  place.value = where;
  if (pending.value.has(where)) return;
  const draft = await library.stored((disk) => disk.draft(where), undefined);
  const found = await known(draft?.attachments ?? []);
  if (!pending.value.has(where)) put(where, found);
}

// Another tab has changed a draft: this one follows, unless somebody writes here.
library.onNote(({ kind, conversation }) => {
  // Everything was deleted, here or there.
  if (kind === "erased") pending.value = new Map();
  if (kind !== "draft" || document.hasFocus() || conversation === place.value) return;
  const made = new Map(pending.value);
  made.delete(conversation);
  pending.value = made;
});

// Shows the files of a message that is edited, until `show`: those that the edit has come to have, or the message's.
export async function edit(message: Message, attached = message.attachments ?? []): Promise<void> {
  const where = `${EDITED}${message.id}`;
  place.value = where;
  edited.set(where, message);
  if (pending.value.has(where)) return;
  const found = await known(attached);
  if (edited.has(where) && !pending.value.has(where)) put(where, found);
}

// The edit of a message was sent, or is none any more.
export function endEdit(message: string): void {
  const where = `${EDITED}${message}`;
  edited.delete(where);
  const made = new Map(pending.value);
  made.delete(where);
  pending.value = made;
}

// --- Sending ----------------------------------------------------------------------------------------------

// What goes with the message that is sent now.
export function ready(): Attached[] {
  return here().flatMap(attached);
}

// Files belong to the conversation that they were sent in; the draft has them no more.
export function sent(conversation: string): void {
  const where = place.value;
  const ids = here().flatMap((one) => (one.row ? [one.id] : []));
  put(where, []);
  if (edited.has(where)) return;
  library.changeDraft(where, { attachments: [] });
  if (where === conversation) return;
  library.giveAttachments(ids, conversation);
  // What is attached from now on belongs to it.
  show(conversation);
}
