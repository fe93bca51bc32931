// The keys page: copying a new key, and a second thought before revoking one.
import { t } from "./texts.ts";

for (const button of document.querySelectorAll<HTMLButtonElement>("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const copied = document.getElementById(button.dataset.copy ?? "")?.textContent ?? "";
    await navigator.clipboard.writeText(copied);
    button.textContent = t("copied");
  });
}

for (const form of document.querySelectorAll<HTMLFormElement>("[data-revoke]")) {
  form.addEventListener("submit", (event) => {
    if (!confirm(t("revoke_sure", { name: form.dataset.revoke ?? "" }))) event.preventDefault();
  });
}
