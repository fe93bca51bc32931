// The status page: every model that the reader may use, with its state, as /v1/models tells it.
import { ApiError, listModels, type Model } from "./api/api.ts";
import { t, tOf } from "./texts.ts";
import { stateText } from "./waits.ts";

const POLL = 15_000;

const table = document.querySelector<HTMLTableElement>("#models");
const note = document.querySelector<HTMLElement>("#models-note");
const said = document.querySelector<HTMLElement>("#models-said");
let known = new Map<string, string>();
let timer = 0;

function cell(tag: "td" | "th", text: string): HTMLTableCellElement {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function row(one: Model): HTMLTableRowElement {
  const made = document.createElement("tr");
  made.dataset.model = one.id;
  const name = cell("th", one.id);
  name.scope = "row";
  if (one.description) {
    const description = document.createElement("span");
    description.className = "quiet described";
    description.textContent = one.description;
    description.dir = "auto";
    name.append(description);
  }
  const state = cell("td", "");
  const shown = document.createElement("span");
  shown.className = "state";
  shown.dataset.state = one.status;
  shown.textContent = stateText(one);
  state.append(shown);
  const capabilities = (one.capabilities ?? []).map(capability);
  const context = one.context_length ? t("status_tokens", { n: one.context_length }) : "–";
  made.append(name, state, cell("td", capabilities.join(", ") || "–"), cell("td", context));
  return made;
}

// What has no words of ours is told by its own name.
function capability(word: string): string {
  const key = `capability_${word}`;
  const text = tOf(key, "capability_other");
  return text === t("capability_other") ? word : text;
}

function show(models: Model[]): void {
  const body = table?.tBodies[0];
  if (!table || !body || !note) return;
  body.replaceChildren(...models.map(row));
  table.hidden = !models.length;
  note.textContent = models.length ? t("status_count", { n: models.length }) : t("no_models");
  const states = new Map(models.map((one) => [one.id, one.status]));
  const changed = models.filter((one) => known.has(one.id) && known.get(one.id) !== one.status);
  if (said && changed.length) {
    said.textContent = changed
      .map((one) => t("status_changed", { model: one.id, state: stateText(one) }))
      .join(" ");
  }
  known = states;
}

async function refresh(): Promise<void> {
  clearTimeout(timer);
  try {
    show(await listModels());
  } catch (error) {
    const out = error instanceof ApiError && error.code === "signed_out";
    if (note) note.textContent = out ? t("status_signed_out") : t("models_unreachable");
  }
  if (!document.hidden) timer = window.setTimeout(refresh, POLL);
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
