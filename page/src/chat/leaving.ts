// What was typed in the last moment before a page ends: the database does not end its work then, this storage does.
import { scoped } from "../site.ts";
import { asEdit, type Edit } from "../store/rows.ts";

const KEY = scoped("sluice-typed");
// A page that comes later than this, in milliseconds, asks the database: another tab may have gone on.
const RELOAD = 60_000;

export interface Kept {
  text: string;
  // null: no message is written anew. Absent: the database knows.
  edit?: Edit | null;
}

interface Typed extends Kept {
  user: string;
  conversation: string;
  at: number;
}

function user(): string {
  return document.body.dataset.user ?? "";
}

export function keep(conversation: string, kept: Kept | undefined): void {
  try {
    const typed = { ...kept, user: user(), conversation, at: Date.now() };
    if (kept) sessionStorage.setItem(KEY, JSON.stringify(typed));
    else sessionStorage.removeItem(KEY);
  } catch {
    // Forbidden or full: the database has what was typed until a moment ago.
  }
}

// What was kept for this conversation, undefined for nothing. It is given once.
export function take(conversation: string): Kept | undefined {
  try {
    const typed: Partial<Typed> = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
    sessionStorage.removeItem(KEY);
    const { user: whose, conversation: where, at, text, edit } = typed;
    const ours = whose === user() && where === conversation && typeof text === "string";
    if (!ours || Date.now() - Number(at) >= RELOAD) return undefined;
    return edit === undefined ? { text } : { text, edit: asEdit(edit) ?? null };
  } catch {
    return undefined;
  }
}
