// Announcements above every page: closed ones stay closed in this browser, and open pages hear of new ones.
import { scoped } from "./site.ts";

// What the server says of one: a name of its own, and its text in pieces, each with an address or "".
export interface Announcement {
  id: string;
  level: string;
  pieces: [string, string][];
}

const KEY = scoped("sluice-closed");
// Of older ones the server no longer tells.
const KEPT = 50;

function closed(): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => typeof one === "string") : [];
  } catch {
    return [];
  }
}

// Before the page is painted: what was closed is not seen for a moment.
export function hideClosed(): void {
  const rules = closed().map((id) => `[data-announcement="${CSS.escape(id)}"]{display:none}`);
  if (!rules.length) return;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(rules.join(""));
  document.adoptedStyleSheets.push(sheet);
}

function close(id: string): void {
  try {
    localStorage.setItem(KEY, JSON.stringify([...closed(), id].slice(-KEPT)));
  } catch {
    // It is closed as long as the page lasts.
  }
  const place = document.getElementById("announced");
  place?.querySelector(`[data-announcement="${CSS.escape(id)}"]`)?.remove();
  // The keyboard goes on at the next one, or in the page.
  const next =
    place?.querySelector("button") ?? document.getElementById("input") ?? document.querySelector("main");
  if (next?.tagName === "MAIN") next.tabIndex = -1;
  next?.focus();
}

// Lets readers close what is there. `label` is what a button says that does it.
export function offerClosing(label: string): void {
  for (const one of document.querySelectorAll<HTMLElement>("[data-announcement]")) {
    if (one.querySelector("button")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "icon-button small";
    button.textContent = "×";
    button.setAttribute("aria-label", `${label}: ${one.textContent ?? ""}`);
    button.title = label;
    button.addEventListener("click", () => close(one.dataset.announcement ?? ""));
    one.append(button);
  }
}

// Shows what is announced now in place of what was. What is there already stays as it is, for screen readers.
export function announce(now: readonly Announcement[], label: string): void {
  const place = document.getElementById("announced");
  if (!place) return;
  const gone = closed();
  const wanted = now.filter((one) => !gone.includes(one.id));
  for (const shown of place.querySelectorAll<HTMLElement>("[data-announcement]")) {
    if (!wanted.some((one) => one.id === shown.dataset.announcement)) shown.remove();
  }
  for (const one of wanted) {
    if (!place.querySelector(`[data-announcement="${CSS.escape(one.id)}"]`)) place.append(drawn(one));
  }
  offerClosing(label);
}

function drawn(one: Announcement): HTMLElement {
  const made = document.createElement("p");
  made.className = one.level === "warning" ? "announcement warning" : "announcement";
  made.dataset.announcement = one.id;
  const words = document.createElement("span");
  for (const [text, link] of one.pieces)
    words.append(link.startsWith("https://") ? linked(text, link) : text);
  made.append(words);
  return made;
}

function linked(text: string, link: string): HTMLAnchorElement {
  const made = document.createElement("a");
  made.href = link;
  made.target = "_blank";
  made.rel = "noopener noreferrer";
  made.textContent = text;
  return made;
}
