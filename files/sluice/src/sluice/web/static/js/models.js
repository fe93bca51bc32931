// The choice of a model, with its live state.
import { listModels } from "./api.js";
import { element } from "./dom.js";
import { t } from "./texts.js";

const KEY = "sluice-model";
const POLL_READY = 15_000;
const POLL_CHANGING = 4_000;

export class Models {
  #select = document.getElementById("model");
  #status = document.getElementById("model-status");
  #models = [];
  #timer = null;

  constructor() {
    this.#select.addEventListener("change", () => {
      localStorage.setItem(KEY, this.#select.value);
      this.#showStatus();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  get name() {
    return this.#select.value;
  }

  get current() {
    return this.#models.find((model) => model.id === this.name);
  }

  choose(name) {
    if (this.#models.some((model) => model.id === name)) {
      this.#select.value = name;
      this.#showStatus();
    }
  }

  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.#show((await listModels()).filter((model) => (model.capabilities ?? ["chat"]).includes("chat")));
    } catch (error) {
      if (error.code === "signed_out") return;
      this.#status.dataset.state = "unknown";
      this.#status.textContent = t("models_unreachable");
    }
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), this.#settled() ? POLL_READY : POLL_CHANGING);
  }

  #settled() {
    return this.current?.status === "ready";
  }

  #show(models) {
    const before = this.name || localStorage.getItem(KEY);
    const changed = models.map((model) => model.id).join() !== this.#models.map((model) => model.id).join();
    this.#models = models;
    if (changed) {
      const preferred = models.find((model) => model.id === before) ?? models.find((model) => model.status === "ready") ?? models[0];
      this.#select.replaceChildren(...models.map((model) => element("option", { value: model.id, title: model.description ?? "" })));
      this.#select.value = preferred?.id ?? "";
      this.#select.disabled = !models.length;
    }
    for (const [at, model] of models.entries()) label(this.#select.options[at], model);
    this.#showStatus();
  }

  #showStatus() {
    const model = this.current;
    const text = model ? statusText(model) : t("no_models");
    this.#status.dataset.state = model?.status ?? "unknown";
    // It is a live region: write only what has changed, or it is read out at every poll.
    if (this.#status.textContent !== text) this.#status.textContent = text;
    this.#status.title = model?.description || text;
  }
}

// The list says which models would have to be waited for.
function label(option, model) {
  const text = model.status === "ready" ? model.id : `${model.id} · ${t(`short_${model.status}`)}`;
  if (option.textContent !== text) option.textContent = text;
}

function statusText(model) {
  const seconds = model.expected_ready ? model.expected_ready - Date.now() / 1000 : 0;
  if (model.status === "starting" && seconds > 0) return t("status_starting_eta", { time: duration(seconds) });
  if (model.status === "sleeping" && seconds > 0) return t("status_sleeping_eta", { time: duration(seconds) });
  return t(`status_${model.status}`);
}

// Rounded so that a waiting person is not told a new number at every poll.
export function duration(seconds) {
  if (seconds > 90) return t("minutes", { n: Math.ceil(seconds / 60) });
  return t("seconds", { n: Math.max(5, Math.ceil(seconds / 5) * 5) });
}
