// Light or dark: as the system has it, or as the person chose. Runs before the page is painted.
import { hideClosed, offerClosing } from "./announcements.ts";
import { LINK_KEY, LINK_MARK, scoped } from "./site.ts";

const KEY = scoped("sluice-theme");
const CHOICES = ["auto", "light", "dark"];
const root = document.documentElement;
let chosen = stored();

// A browser may forbid its storage: the choice then lasts as long as the page.
function stored(): string {
  try {
    const found = localStorage.getItem(KEY) ?? "";
    return CHOICES.includes(found) ? found : "auto";
  } catch {
    return "auto";
  }
}

function choose(theme: string): void {
  chosen = theme;
  apply();
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // As above.
  }
}

function apply(): void {
  if (chosen === "auto") delete root.dataset.theme;
  else root.dataset.theme = chosen;
}

apply();
hideClosed();

// A word that is being composed: the chat page's script does not take the field over in its middle.
document.addEventListener("compositionstart", () => {
  root.dataset.composing = "yes";
});
document.addEventListener("compositionend", () => {
  delete root.dataset.composing;
});

// A link that carries settings outlives the sign-in that comes before the chat page, in this tab.
if (location.hash.startsWith(LINK_MARK)) {
  try {
    sessionStorage.setItem(LINK_KEY, location.hash);
  } catch {
    // Without storage the link is opened once more after signing in.
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const word = (key: string) => String(globalThis.sluiceTexts?.[key] ?? "");
  offerClosing(word("announcement_close"));
  const button = document.getElementById("theme");
  if (!button) return;
  const label = () => {
    button.title = word(`theme_${chosen}`);
    button.setAttribute("aria-label", button.title);
  };
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    choose(CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length] ?? "auto");
    label();
  });
});
