// Whether the page is dark: as the system has it, or as the person chose (theme.ts).
import { signal } from "@preact/signals";

const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

function look(): boolean {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

export const dark = signal(look());

const noted = () => {
  dark.value = look();
};
system.addEventListener("change", noted);
new MutationObserver(noted).observe(root, { attributeFilter: ["data-theme"] });
