// What went wrong, in words that say what to do, with the buttons to do it.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { ApiError } from "../api/api.ts";
import { type TextKey, t } from "../texts.ts";
import { noRetry, type Problem } from "./answers.ts";

const TEXTS: Record<string, TextKey> = {
  network: "error_network",
  broken_off: "broken_off",
  instance_failed: "broken_off",
  instance_timeout: "broken_off",
  no_instance: "error_waiting",
  overloaded: "error_busy",
  cluster_unreachable: "error_unreachable",
  authority_unreachable: "error_unreachable",
  closed: "error_unreachable",
  model_not_allowed: "error_not_allowed",
  model_not_found: "error_not_found",
  body_too_large: "error_too_large",
  context_length_exceeded: "error_too_large",
  rate_limited: "error_limit",
  requests_limited: "error_limit",
  tokens_limited: "error_limit",
  concurrency_limited: "error_limit",
  day_limited: "error_day",
  model_stopped: "error_stopped",
};
const WAITING = new Set(["no_instance", "overloaded", "network"]);

function words(error: ApiError): string {
  return t(TEXTS[error.code] ?? "error_other");
}

export function ProblemCard({ problem, conversation }: { problem: Problem; conversation: string }) {
  const { error, until, retry } = problem;
  if (error.code === "signed_out") return <SignedOut />;
  // Having to wait is no fault: it looks calm and gives no number to report.
  const waiting = WAITING.has(error.code);
  return (
    <div class={waiting ? "problem waiting" : "problem"} role="alert">
      <p>
        <strong>{words(error)}</strong>
      </p>
      {error.detail && error.code !== "network" ? <p>{error.detail}</p> : null}
      {error.requestId && !waiting ? <p class="quiet">{t("error_id", { id: error.requestId })}</p> : null}
      <div class="row">
        <button type="button" class="button small primary retry" onClick={retry}>
          {t("retry")}
        </button>
        {until ? <Countdown until={until} conversation={conversation} /> : null}
      </div>
    </div>
  );
}

function Countdown({ until, conversation }: { until: number; conversation: string }) {
  const left = useSignal(Math.ceil((until - Date.now()) / 1000));
  useEffect(() => {
    const timer = setInterval(() => {
      left.value = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    }, 250);
    return () => clearInterval(timer);
  }, [until]);
  return (
    <>
      {/* Not a live region: nobody wants every second read out. */}
      <span class="countdown" role="timer" aria-live="off">
        {left.value > 120
          ? t("retry_in_minutes", { minutes: Math.ceil(left.value / 60) })
          : t("retry_in", { seconds: left.value })}
      </span>
      <button type="button" class="quiet-button" onClick={() => noRetry(conversation)}>
        {t("retry_stop")}
      </button>
    </>
  );
}

function SignedOut() {
  const back = encodeURIComponent(location.pathname);
  return (
    <div class="problem" role="alert">
      <p>
        <strong>{t("error_signed_out")}</strong>
      </p>
      <a class="button small primary" href={`/auth/login?next=${back}`}>
        {t("sign_in")}
      </a>
    </div>
  );
}
