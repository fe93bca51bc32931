// What was typed in the last moment before a page ends: the database does not end its work then, this storage does.
import { scoped } from "../site.ts";

const KEY = scoped("sluice-typed");
// A page that comes later than this, in milliseconds, asks the database: another tab may have gone on.
const RELOAD = 60_000;

interface Typed {
  user: string;
  conversation: string;
  text: string;
  at: number;
}

function user(): string {
  return document.body.dataset.user ?? "";
}

export function keep(conversation: string, text: string | undefined): void {
  try {
    const typed: Typed = { user: user(), conversation, text: text ?? "", at: Date.now() };
    if (text === undefined) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, JSON.stringify(typed));
  } catch {
    // Forbidden or full: the database has what was typed until a moment ago.
  }
}

// What was kept for this conversation, undefined for nothing. It is given once.
export function take(conversation: string): string | undefined {
  try {
    const typed: Partial<Typed> = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
    sessionStorage.removeItem(KEY);
    const ours = typed.user === user() && typed.conversation === conversation;
    return ours && Date.now() - Number(typed.at) < RELOAD ? typed.text : undefined;
  } catch {
    return undefined;
  }
}
