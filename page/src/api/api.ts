// /v1 as the page uses it: with a short-lived bearer, fetched with the session and worth nothing elsewhere.
import { type Announcement, announce } from "../announcements.ts";
import { at } from "../site.ts";
import { t } from "../texts.ts";
import { EventParser } from "./sse.ts";

const MARGIN_SECONDS = 60;
// After a request that did not get through (a network that changed, a restart), in seconds.
const NETWORK_RETRY = 3;

export interface Model {
  id: string;
  status: string;
  description?: string;
  capabilities?: string[];
  context_length?: number;
  expected_ready?: number | null;
  // Runs outside the site: who runs it, and where what is sent goes.
  external?: boolean;
  provider?: string;
  region?: string;
}

// A picture or a sound, as OpenAI's API takes it.
export type Media =
  | { type: "image_url"; image_url: { url: string } }
  | { type: "input_audio"; input_audio: { data: string; format: "wav" | "mp3" } };

export interface Turn {
  role: string;
  content: string;
  // What stands beside the text.
  media?: readonly Media[];
}

function asSent({ role, content, media }: Turn): object {
  if (!media?.length) return { role, content };
  return { role, content: [...(content ? [{ type: "text", text: content }] : []), ...media] };
}

interface Refusal {
  code?: string;
  message?: string;
  param?: string | null;
  request_id?: string;
  retry_after?: number | null;
}

interface More {
  message?: string;
  param?: string;
  requestId?: string;
  retryAfter?: number | null;
}

export class ApiError extends Error {
  code: string;
  detail: string;
  // Which field of the question was refused; "" for none.
  param: string;
  requestId: string;
  retryAfter: number | null;

  constructor(code: string, more: More = {}) {
    super(more.message || code);
    this.code = code;
    this.detail = more.message ?? "";
    this.param = more.param ?? "";
    this.requestId = more.requestId ?? "";
    this.retryAfter = more.retryAfter ?? null;
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

let bearer = { text: "", until: 0 };

async function request(path: string, options: RequestInit): Promise<Response> {
  try {
    return await fetch(at(path), {
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      ...options,
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("network", { message: String(error), retryAfter: NETWORK_RETRY });
  }
}

async function failure(response: Response): Promise<ApiError> {
  let error: Refusal = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // An answer that is not JSON came from something in between: its status says enough.
  }
  const seconds = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  return new ApiError(error.code ?? `http_${response.status}`, {
    message: error.message ?? "",
    param: error.param ?? "",
    requestId: error.request_id ?? response.headers.get("X-Request-Id") ?? "",
    retryAfter: Number.isFinite(seconds) ? seconds : null,
  });
}

async function authorization(signal: AbortSignal | null): Promise<string> {
  if (Date.now() > bearer.until) {
    const response = await request("/page-bearer", {
      method: "POST",
      headers: { "X-CSRF-Token": document.body.dataset.csrf ?? "", Accept: "application/json" },
      signal,
    });
    if (response.status === 401 || response.status === 403) throw new ApiError("signed_out");
    if (!response.ok) throw await failure(response);
    const made: { bearer: string; expires_in: number; announcements?: Announcement[] } =
      await response.json();
    announce(made.announcements ?? [], t("announcement_close"));
    const lifetime = Math.max(made.expires_in - MARGIN_SECONDS, made.expires_in / 2);
    bearer = { text: made.bearer, until: Date.now() + lifetime * 1000 };
  }
  return `Bearer ${bearer.text}`;
}

// A bearer can end before its time (signed out elsewhere): once, a refusal means a new one.
async function authorized(path: string, options: RequestInit): Promise<Response> {
  const ask = async () => {
    const headers = { ...options.headers, Authorization: await authorization(options.signal ?? null) };
    return request(path, { ...options, headers, credentials: "omit" });
  };
  const response = await ask();
  if (response.status !== 401) return response;
  bearer.until = 0;
  return ask();
}

export async function listModels(): Promise<Model[]> {
  const response = await authorized("/v1/models", {});
  if (!response.ok) throw await failure(response);
  return (await response.json()).data;
}

// What an answer took, as the engine counted it.
export interface Counted {
  prompt_tokens: number;
  completion_tokens: number;
}

// Bytes of a request that the site takes; Infinity where the page does not say.
export function mostBody(): number {
  return Number(document.getElementById("app")?.dataset.maxBody) || Number.POSITIVE_INFINITY;
}

// A body that the site takes. Raises ApiError, before anything is sent, for one that is too large.
function fitting(body: string): string {
  const most = mostBody();
  // No letter has more than three bytes for each of its units.
  if (body.length * 3 > most && new Blob([body]).size > most) throw new ApiError("body_too_large");
  return body;
}

export interface Question {
  model: string;
  messages: Turn[];
  // Temperature and the like, by the names of the API.
  settings: Readonly<Record<string, number>>;
  signal: AbortSignal;
  onText: (piece: string) => void;
  // What the model thinks, where the engine keeps it apart from the answer.
  onReasoning: (piece: string) => void;
  onNote: (note: string) => void;
}

export interface Ending {
  // Why the engine says that the answer ends; "" where it does not.
  reason: string;
  usage: Counted | null;
}

// Streams an answer: calls onText and onReasoning with each piece and onNote with what the gateway says while one waits.
// Resolves when the answer is complete; a stream that ends without its end is an error.
export async function streamChat(question: Question): Promise<Ending> {
  const { settings, signal, onText: _, onReasoning: __, onNote, ...asked } = question;
  const response = await authorized("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: fitting(
      JSON.stringify({
        ...asked,
        messages: asked.messages.map(asSent),
        ...settings,
        stream: true,
        stream_options: { include_usage: true },
      }),
    ),
    signal,
  });
  if (!response.ok) throw await failure(response);
  const requestId = response.headers.get("X-Request-Id") ?? "";
  const reader = response.body?.getReader();
  if (!reader) throw new ApiError("broken_off", { requestId });
  const ending: Ending = { reason: "", usage: null };
  try {
    for await (const event of events(reader, requestId)) {
      if ("comment" in event) onNote(event.comment);
      else if (event.data === "[DONE]") return ending;
      else take(JSON.parse(event.data), ending, question);
    }
  } finally {
    // Nobody reads on: the engine need not write on.
    reader.cancel().catch(() => {});
  }
  throw new ApiError("broken_off", { requestId });
}

async function* events(reader: ReadableStreamDefaultReader<Uint8Array>, requestId: string) {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await read(reader, requestId);
    if (done) return;
    yield* parser.feed(decoder.decode(value, { stream: true }));
  }
}

async function read(reader: ReadableStreamDefaultReader<Uint8Array>, requestId: string) {
  try {
    return await reader.read();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("broken_off", { message: String(error), requestId });
  }
}

interface Chunk {
  error?: Refusal;
  choices?: {
    delta?: { content?: unknown; reasoning_content?: unknown; reasoning?: unknown };
    finish_reason?: unknown;
  }[];
  usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null;
}

function take(chunk: Chunk, ending: Ending, { onText, onReasoning }: Question): void {
  if (chunk.error) {
    throw new ApiError(chunk.error.code ?? "broken_off", {
      message: chunk.error.message ?? "",
      param: chunk.error.param ?? "",
      requestId: chunk.error.request_id ?? "",
      retryAfter: chunk.error.retry_after ?? null,
    });
  }
  const choice = chunk.choices?.[0];
  const { content: piece, reasoning_content, reasoning } = choice?.delta ?? {};
  const thought = reasoning_content ?? reasoning;
  if (typeof thought === "string" && thought) onReasoning(thought);
  if (typeof piece === "string" && piece) onText(piece);
  if (typeof choice?.finish_reason === "string") ending.reason = choice.finish_reason;
  ending.usage = counted(chunk.usage) ?? ending.usage;
}

function counted(usage: Chunk["usage"]): Counted | null {
  const { prompt_tokens, completion_tokens } = usage ?? {};
  if (typeof prompt_tokens !== "number" || typeof completion_tokens !== "number") return null;
  return { prompt_tokens, completion_tokens };
}
