// The keys page: a new key and its pieces for programs, and a second thought before revoking one.
import { listModels } from "./api/api.ts";
import { t } from "./texts.ts";

const said = document.querySelector<HTMLElement>("#copied");

for (const button of document.querySelectorAll<HTMLButtonElement>("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  const [label, what] = [button.firstChild, button.querySelector(".hidden")?.textContent?.trim() ?? ""];
  button.addEventListener("click", async () => {
    const copied = document.getElementById(button.dataset.copy ?? "")?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(copied);
      if (label) label.textContent = t("copied");
      if (said) said.textContent = t("copied_what", { what });
    } catch {
      if (said) said.textContent = t("copy_failed");
      said?.classList.remove("hidden");
    }
  });
}

for (const form of document.querySelectorAll<HTMLFormElement>("[data-revoke]")) {
  form.addEventListener("submit", (event) => {
    if (!confirm(t("revoke_sure", { name: form.dataset.revoke ?? "" }))) event.preventDefault();
  });
}

const choice = document.querySelector<HTMLSelectElement>("#piece-model");

function fill(): void {
  for (const place of document.querySelectorAll(".of-model")) place.textContent = choice?.value ?? "";
}

// The server knows the models of the key, or those that its owner has used; the proxy knows all.
async function offer(select: HTMLSelectElement): Promise<void> {
  const offered = (await listModels()).filter((one) => (one.capabilities ?? ["chat"]).includes("chat"));
  if (!offered.length) return;
  const before = select.value;
  const ready = offered.find((one) => one.status === "ready") ?? offered[0];
  select.replaceChildren(...offered.map((one) => new Option(one.id)));
  select.value = offered.some((one) => one.id === before) ? before : (ready?.id ?? "");
  fill();
}

if (choice) {
  choice.addEventListener("change", fill);
  // Without an answer, the models that are there stay.
  if (choice.dataset.only === undefined) offer(choice).catch(() => {});
}
