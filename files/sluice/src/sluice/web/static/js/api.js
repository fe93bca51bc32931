// /v1 as the page uses it: with a short-lived bearer, fetched with the session and worth nothing elsewhere.
import { EventParser } from "./sse.js";

const MARGIN_SECONDS = 60;
// After a request that did not get through (a network that changed, a restart), in seconds.
const NETWORK_RETRY = 3;

export class ApiError extends Error {
  constructor(code, { message = "", requestId = "", retryAfter = null, status = 0 } = {}) {
    super(message || code);
    Object.assign(this, { code, requestId, retryAfter, status, detail: message });
  }
}

let bearer = { text: "", until: 0 };

async function request(path, options) {
  try {
    return await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("network", { message: error.message, retryAfter: NETWORK_RETRY });
  }
}

async function failure(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // An answer that is not JSON came from something in between: its status says enough.
  }
  const seconds = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  return new ApiError(error.code ?? `http_${response.status}`, {
    message: error.message,
    requestId: error.request_id ?? response.headers.get("X-Request-Id") ?? "",
    retryAfter: Number.isFinite(seconds) ? seconds : null,
    status: response.status,
  });
}

async function authorization(signal) {
  if (Date.now() > bearer.until) {
    const response = await request("/page-bearer", {
      method: "POST",
      headers: { "X-CSRF-Token": document.body.dataset.csrf, Accept: "application/json" },
      signal,
    });
    if (response.status === 401 || response.status === 403) throw new ApiError("signed_out", { status: response.status });
    if (!response.ok) throw await failure(response);
    const made = await response.json();
    const lifetime = Math.max(made.expires_in - MARGIN_SECONDS, made.expires_in / 2);
    bearer = { text: made.bearer, until: Date.now() + lifetime * 1000 };
  }
  return `Bearer ${bearer.text}`;
}

// A bearer can end before its time (signed out elsewhere): once, a refusal means a new one.
async function authorized(path, options) {
  for (const last of [false, true]) {
    const headers = { ...options.headers, Authorization: await authorization(options.signal) };
    const response = await request(path, { ...options, headers, credentials: "omit" });
    if (response.status !== 401 || last) return response;
    bearer.until = 0;
  }
}

export async function listModels() {
  const response = await authorized("/v1/models", {});
  if (!response.ok) throw await failure(response);
  return (await response.json()).data;
}

// Streams an answer: calls onText with each piece and onNote with what the gateway says while one waits.
// Resolves when the answer is complete; a stream that ends without its end is an error.
export async function streamChat({ model, messages, signal, onText, onNote }) {
  const response = await authorized("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true }),
    signal,
  });
  if (!response.ok) throw await failure(response);
  const requestId = response.headers.get("X-Request-Id") ?? "";
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await read(reader, requestId);
    if (done) throw new ApiError("broken_off", { requestId });
    for (const event of parser.feed(value)) {
      if (event.comment !== undefined) onNote(event.comment);
      else if (event.data === "[DONE]") return;
      else take(JSON.parse(event.data), onText);
    }
  }
}

async function read(reader, requestId) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("broken_off", { message: error.message, requestId });
  }
}

function take(chunk, onText) {
  if (chunk.error) {
    throw new ApiError(chunk.error.code ?? "broken_off", {
      message: chunk.error.message,
      requestId: chunk.error.request_id,
      retryAfter: chunk.error.retry_after ?? null,
    });
  }
  const piece = chunk.choices?.[0]?.delta?.content;
  if (piece) onText(piece);
}
