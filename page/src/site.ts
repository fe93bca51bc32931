// Where this Sluice is on its host. Others may have the rest of it, perhaps another Sluice: what a browser keeps by
// origin has names of its own.
export const prefix = (typeof document === "undefined" ? "" : document.documentElement.dataset.prefix) ?? "";

// The address of one of the site's paths.
export function at(path: string): string {
  return prefix + path;
}

// The name of something that the browser keeps for the whole origin: a database, a channel, a lock, an entry.
export function scoped(name: string): string {
  return prefix ? `${name}@${prefix}` : name;
}

// How the part of an address begins that carries settings, and where a tab keeps it over a sign-in.
export const LINK_MARK = "#settings?";
export const LINK_KEY = scoped("sluice-link");
