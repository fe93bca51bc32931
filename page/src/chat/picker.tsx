// The choice of a model, with its live state.
import { t } from "../texts.ts";
import { choose, label, model, models, reachable, statusText } from "./models.ts";

export function ModelPicker() {
  const chosen = model.value;
  const text = statusText(chosen);
  const state = reachable.value && chosen ? chosen.status : "unknown";
  return (
    <>
      <label for="model" class="hidden">
        {t("model")}
      </label>
      <select
        id="model"
        aria-describedby="model-status"
        disabled={!models.value.length}
        value={chosen?.id ?? ""}
        onChange={(event) => choose(event.currentTarget.value)}
      >
        {models.value.map((one) => (
          <option key={one.id} value={one.id} title={one.description ?? ""} selected={one.id === chosen?.id}>
            {label(one)}
          </option>
        ))}
      </select>
      <span
        id="model-status"
        class="status"
        role="status"
        data-state={state}
        title={chosen?.description || text}
      >
        {text}
      </span>
    </>
  );
}
