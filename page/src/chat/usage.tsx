// What an answer cost, and how much of the model's context is left after it.
import type { Message, Usage } from "../store/rows.ts";
import { t } from "../texts.ts";
import { named } from "./models.ts";

// From this part of the context on, what is left is said more loudly.
const NEARLY_FULL = 0.8;
// A shorter time says nothing of the speed, in milliseconds.
const SHORTEST = 100;

export function UsageNote({ message, usage }: { message: Message; usage: Usage }) {
  const context = named(message.model)?.context_length ?? 0;
  const used = usage.prompt_tokens + usage.completion_tokens;
  const parts = [message.model, t("usage_tokens", { n: usage.completion_tokens })];
  if (usage.milliseconds >= SHORTEST) {
    const speed = (usage.completion_tokens * 1000) / usage.milliseconds;
    parts.push(t("usage_speed", { n: Number(speed.toPrecision(2)) }));
  }
  const full = context > 0 && used >= context * NEARLY_FULL;
  if (context) {
    parts.push(t("usage_left", { left: Math.max(0, context - used), all: context }));
  }
  return (
    <p class={full ? "usage-note full" : "usage-note quiet"}>
      {parts.filter(Boolean).join(" · ")}
      {full ? <strong> {t("usage_full")}</strong> : null}
    </p>
  );
}
