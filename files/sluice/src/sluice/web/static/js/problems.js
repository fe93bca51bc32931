// What went wrong, in words that say what to do, with the buttons to do it.
import { element } from "./dom.js";
import { t } from "./texts.js";

const TEXTS = {
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
// Waiting by itself, a page asks again this often at most.
const MOST_RETRIES = 30;

export function words(error) {
  return t(TEXTS[error.code] ?? "error_other");
}

// Shows a problem; `retry()` is called when the person asks, or when Retry-After has passed. Returns {node, cancel}.
export function problemCard(error, attempts, retry) {
  if (error.code === "signed_out") return signedOut();
  let timer = null;
  const cancel = () => clearInterval(timer);
  const again = () => {
    cancel();
    retry();
  };
  const actions = element("div", { className: "row" }, element("button", { type: "button", className: "button small primary retry", onclick: again }, t("retry")));
  if (error.retryAfter !== null && attempts < MOST_RETRIES) {
    const [count, stop] = countdown();
    actions.append(count, stop);
    timer = startCountdown(error.retryAfter, count, again);
    stop.addEventListener("click", () => {
      cancel();
      count.remove();
      stop.remove();
    });
  }
  return { node: card(error, actions), cancel };
}

function countdown() {
  // Not a live region: nobody wants every second read out.
  const count = element("span", { className: "countdown", role: "timer", ariaLive: "off" });
  return [count, element("button", { type: "button", className: "quiet-button" }, t("retry_stop"))];
}

function startCountdown(seconds, count, again) {
  const end = Date.now() + Math.max(1, seconds) * 1000;
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    count.textContent = t("retry_in", { seconds: Math.max(0, left) });
    if (left <= 0) again();
  };
  count.textContent = t("retry_in", { seconds: Math.ceil(seconds) });
  return setInterval(tick, 250);
}

function card(error, actions) {
  // Having to wait is no fault: it looks calm and gives no number to report.
  const waiting = WAITING.has(error.code);
  const node = element("div", { className: waiting ? "problem waiting" : "problem", role: "alert" }, element("p", {}, element("strong", {}, words(error))));
  if (error.detail && error.code !== "network") node.append(element("p", {}, error.detail));
  if (error.requestId && !waiting) node.append(element("p", { className: "quiet" }, t("error_id", { id: error.requestId })));
  node.append(actions);
  return node;
}

function signedOut() {
  const action = element("a", { className: "button small primary", href: "/auth/login?next=/" }, t("sign_in"));
  const node = element("div", { className: "problem", role: "alert" }, element("p", {}, element("strong", {}, t("error_signed_out"))), action);
  return { node, cancel: () => {} };
}
