// The administrators' pages of models and limits: the clusters' models, as /v1/models tells them to the reader.
import { listModels } from "./api/api.ts";
import { t, tOf } from "./texts.ts";

const rows = document.querySelectorAll<HTMLElement>("tr[data-model]");

async function show(): Promise<void> {
  const states = new Map((await listModels()).map((model) => [model.id, model.status]));
  for (const row of rows) {
    const state = states.get(row.dataset.model ?? "");
    const live = row.querySelector(".live");
    if (live) {
      live.textContent = state === undefined ? t("not_offered") : tOf(`admin_${state}`, "admin_unknown");
    }
  }
  const list = document.querySelector<HTMLDataListElement>("#known");
  const listed = new Set([...(list?.options ?? [])].map((option) => option.value));
  for (const name of states.keys()) {
    if (!listed.has(name)) list?.append(new Option("", name));
  }
  // A model of the clusters that nobody has used here is new, and no mistake.
  const [input, fresh] = [
    document.querySelector<HTMLInputElement>("#model"),
    document.querySelector<HTMLInputElement>("#new-model"),
  ];
  input?.addEventListener("change", () => {
    if (fresh) fresh.checked = states.has(input.value) && !listed.has(input.value);
  });
  for (const cell of document.querySelectorAll<HTMLElement>(".live")) cell.hidden = false;
}

// Without an answer the column stays away: the page says all else.
show().catch(() => {});
