// What went wrong, in words that say what to do, with the buttons to do it.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { ApiError } from "../api/api.ts";
import { type NumberField, refused } from "../settings/fields.ts";
import { at } from "../site.ts";
import { type TextKey, t } from "../texts.ts";
import { noRetry, type Problem, shorten } from "./answers.ts";
import type { Overflow } from "./fitting.ts";
import { openPanel } from "./panel.tsx";
import { ownOf, setOwn } from "./tuning.ts";

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
  conversation_too_long: "error_context",
  context_length_exceeded: "error_context",
  empty_answer: "error_empty",
  rate_limited: "error_limit",
  requests_limited: "error_limit",
  tokens_limited: "error_limit",
  concurrency_limited: "error_limit",
  day_limited: "error_day",
  model_stopped: "error_stopped",
  key_not_allowed: "error_not_allowed",
  capability_missing: "error_capability",
  headers_too_large: "error_too_large",
  answer_too_large: "error_answer",
  internal_error: "error_internal",
  invalid_api_key: "error_signed_out",
  malformed_json: "error_refused",
  invalid_request: "error_refused",
  media_url_refused: "error_refused",
  model_mismatch: "error_refused",
  path_not_found: "error_refused",
  method_not_allowed: "error_refused",
  length_required: "error_refused",
  address_too_long: "error_refused",
};
const WAITING = new Set(["no_instance", "overloaded", "network"]);

function words(error: ApiError): string {
  // Something between page and service answers in its place.
  if (/^http_5\d\d$/.test(error.code)) return t("error_network");
  return t(TEXTS[error.code] ?? "error_other");
}

interface Props {
  problem: Problem;
  conversation: string;
  // As problems have it.
  place: string;
}

export function ProblemCard({ problem, conversation, place }: Props) {
  const { error, until, retry, over } = problem;
  if (error.code === "signed_out") return <SignedOut />;
  const field = error.code === "invalid_request" ? refused(error.param) : "";
  // Having to wait is no fault: it looks calm and gives no number to report.
  const waiting = WAITING.has(error.code);
  return (
    <div class={waiting ? "problem waiting" : "problem"} role="alert">
      <p>
        <strong>{words(error)}</strong>
      </p>
      {error.detail && error.code !== "network" ? <p lang="en">{error.detail}</p> : null}
      {field ? <p>{t("set_refused", { field: t(`set_${field}`) })}</p> : null}
      {over ? <TooLong over={over} /> : null}
      {error.requestId && !waiting ? <p class="quiet">{t("error_id", { id: error.requestId })}</p> : null}
      <div class="row">
        <button type="button" class="button small primary retry" onClick={retry}>
          {t("retry")}
        </button>
        {field ? <RefusedField field={field} conversation={conversation} retry={retry} /> : null}
        {over?.left ? <NewestOnly over={over} conversation={conversation} retry={retry} /> : null}
        {until ? <Countdown until={until} place={place} /> : null}
      </div>
    </div>
  );
}

interface Refused {
  field: NumberField;
  conversation: string;
  retry: () => void;
}

// A setting that the model does not take: it is changed, or left out of this conversation.
function RefusedField({ field, conversation, retry }: Refused) {
  const without = () => {
    const { [field]: _, ...rest } = ownOf(conversation);
    setOwn(conversation, rest);
    retry();
  };
  return (
    <>
      <button type="button" class="button small" id="set-open" onClick={() => openPanel(field)}>
        {t("set_open")}
      </button>
      {ownOf(conversation)[field] === undefined ? null : (
        <button type="button" class="button small" id="set-without" onClick={without}>
          {t("set_without")}
        </button>
      )}
    </>
  );
}

// What to shorten, the longest first.
function TooLong({ over }: { over: Overflow }) {
  const before = over.all - over.system - over.question;
  const parts: [TextKey, number][] = [
    ["too_long_question", over.question],
    ["too_long_system", over.system],
    ["too_long_before", before],
  ];
  const shown = parts.filter(([, tokens]) => tokens > over.room / 20).sort((one, two) => two[1] - one[1]);
  return (
    <>
      <p>{t("too_long", { all: over.all, room: over.room })}</p>
      <ul>
        {shown.map(([key, tokens]) => (
          <li key={key}>{t(key, { n: tokens })}</li>
        ))}
      </ul>
    </>
  );
}

function NewestOnly({
  over,
  conversation,
  retry,
}: {
  over: Overflow;
  conversation: string;
  retry: () => void;
}) {
  const goOn = () => {
    shorten(conversation, over);
    retry();
  };
  return (
    <button type="button" class="button small" id="newest-only" onClick={goOn}>
      {t("too_long_newest", { n: over.left })}
    </button>
  );
}

function Countdown({ until, place }: { until: number; place: string }) {
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
      <button type="button" class="quiet-button" onClick={() => noRetry(place)}>
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
      <a class="button small primary" href={at(`/auth/login?next=${back}`)}>
        {t("sign_in")}
      </a>
    </div>
  );
}
