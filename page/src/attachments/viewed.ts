// The file that is looked at, in a dialogue; null for none.
import { signal } from "@preact/signals";
import * as library from "../chat/library.ts";
import { say } from "../chat/said.ts";
import type { Attached, Attachment } from "../store/rows.ts";
import { t } from "../texts.ts";

export interface Viewed {
  row: Attachment;
  chosen: readonly number[] | undefined;
  // Of the file above the composer, whose pages can be chosen; "" for what was sent.
  pending: string;
}

export const viewed = signal<Viewed | null>(null);

export function view(row: Attachment, chosen: readonly number[] | undefined, pending = ""): void {
  viewed.value = { row, chosen, pending };
}

export async function viewSent({ id, name, pages }: Attached): Promise<void> {
  const row = await library.attachment(id);
  if (row) view(row, pages);
  else say(t("attach_lost", { name }));
}
