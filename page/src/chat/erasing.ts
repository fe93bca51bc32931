// Deletes all that this page has put into this browser, for whoever is signed in: the database, what stands beside it,
// and what other tabs have in memory.
import { prefix } from "../site.ts";
import { t } from "../texts.ts";
import { erase } from "./library.ts";
import { say } from "./said.ts";

export async function eraseAll(): Promise<void> {
  try {
    await erase(document.body.dataset.user ?? "");
    emptyStorage();
    await emptyCaches();
    say(t("erased"));
  } catch {
    say(t("erase_failed"));
  }
}

// By name: others on this host keep what is theirs.
function isOurs(key: string): boolean {
  return key.startsWith("sluice") && (prefix ? key.endsWith(`@${prefix}`) : !key.includes("@"));
}

function emptyStorage(): void {
  for (const name of ["localStorage", "sessionStorage"] as const) {
    try {
      const storage = window[name];
      const keys = Array.from({ length: storage.length }, (_none, at) => storage.key(at) ?? "");
      for (const key of keys) if (isOurs(key)) storage.removeItem(key);
    } catch {
      // Where it is forbidden, nothing is in it.
    }
  }
}

async function emptyCaches(): Promise<void> {
  if (!("caches" in window)) return;
  for (const key of await caches.keys()) if (isOurs(key)) await caches.delete(key);
}
