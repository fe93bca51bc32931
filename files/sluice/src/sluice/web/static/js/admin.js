// The page of models: their state on the cluster, as /v1/models tells it to whoever looks at the page.
import { listModels } from "./api.js";
import { t } from "./texts.js";

const known = ["ready", "starting", "sleeping", "failed", "drained", "stopped"];
const rows = document.querySelectorAll("tr[data-model]");

async function show() {
  const states = new Map((await listModels()).map((model) => [model.id, model.status]));
  for (const row of rows) {
    const state = states.get(row.dataset.model);
    const shown = known.includes(state) ? state : "unknown";
    row.querySelector(".live").textContent = state === undefined ? t("not_offered") : t(`admin_${shown}`);
  }
  const list = document.getElementById("known");
  const listed = new Set([...list.options].map((option) => option.value));
  for (const name of states.keys()) {
    if (!listed.has(name)) list.append(new Option("", name));
  }
  for (const cell of document.querySelectorAll(".live")) cell.hidden = false;
}

// Without an answer the column stays away: the page says all else.
show().catch(() => {});
