// ChatGPT's export: conversations.json is a list of conversations, each with a tree of nodes in `mapping`. A turn of the
// model is often several nodes: its thoughts, calls of tools and what these gave, then the text. Here it is one message.
import type { Reasoning } from "../store/rows.ts";
import { type Fields, type Found, type FoundMessage, fields, list, text, time } from "./found.ts";

export function isChatGpt(row: Fields): boolean {
  return typeof row.mapping === "object" && row.mapping !== null && !Array.isArray(row.mapping);
}

// A node that is yet to be looked at, with what came before it.
interface Ahead {
  id: string;
  // The message that it follows; null for none.
  before: FoundMessage | null;
  // Whether it is the only one that follows.
  alone: boolean;
  // What the model thought since its last text.
  thoughts: Reasoning | null;
}

export function fromChatGpt(row: Fields): Found {
  const found: Found = {
    source: "chatgpt",
    id: text(row.conversation_id) || text(row.id),
    title: text(row.title),
    titled: "own",
    created: time(row.create_time),
    updated: time(row.update_time) || time(row.create_time),
    model: text(row.default_model_slug),
    leaf: "",
    pinned: row.is_starred === true || Boolean(row.pinned_time),
    folder: "",
    settings: {},
    messages: [],
    files: [],
    lost: 0,
  };
  const nodes = fields(row.mapping);
  // Which message a node became, or belongs to.
  const became = new Map<string, string>();
  const seen = new Set<string>();
  const ahead: Ahead[] = roots(nodes).map((id) => ({ id, before: null, alone: false, thoughts: null }));
  for (let next = ahead.pop(); next; next = ahead.pop()) {
    if (seen.has(next.id)) continue;
    seen.add(next.id);
    const node = fields(nodes[next.id]);
    const { message, thoughts } = taken(next, node, found);
    if (message) became.set(next.id, message.id);
    const children = list(node.children)
      .map(text)
      .filter((id) => id in nodes);
    const alone = children.length === 1;
    // The last is looked at first: children are put down in reverse.
    for (const id of children.reverse()) {
      // What a branch adds to, only it may have.
      ahead.push({ id, before: message, alone: alone && (next.alone || message !== next.before), thoughts });
    }
  }
  found.leaf = became.get(text(row.current_node)) ?? "";
  found.model ||= found.messages.findLast((one) => one.model)?.model ?? "";
  return found;
}

function roots(nodes: Fields): string[] {
  return Object.keys(nodes)
    .filter((id) => !(text(fields(nodes[id]).parent) in nodes))
    .reverse();
}

// What becomes of a node: a message, a part of the one before, thoughts for the next one, or nothing.
function taken(
  ahead: Ahead,
  node: Fields,
  found: Found,
): { message: FoundMessage | null; thoughts: Reasoning | null } {
  const { before } = ahead;
  const message = fields(node.message);
  const content = fields(message.content);
  const role = text(fields(message.author).role);
  const metadata = fields(message.metadata);
  const nothing = { message: before, thoughts: ahead.thoughts };
  if (metadata.is_visually_hidden_from_conversation === true) return nothing;
  if (role === "assistant") {
    const thoughts = thought(content, metadata, ahead.thoughts);
    if (thoughts) return { message: before, thoughts };
  } else if (role !== "user") {
    return nothing;
  }
  // To a tool, not to the reader.
  if (role === "assistant" && message.recipient && message.recipient !== "all") return nothing;
  const said = textOf(content, found) + (role === "user" ? attached(metadata, found) : "");
  if (!said) return nothing;
  if (role === "assistant" && before?.role === "assistant" && ahead.alone) {
    before.content += `\n\n${said}`;
    addThoughts(before, ahead.thoughts);
    return { message: before, thoughts: null };
  }
  const made: FoundMessage = {
    id: text(message.id) || ahead.id,
    parent: before?.id ?? "",
    role,
    content: said,
    created: time(message.create_time),
    model: role === "assistant" ? text(metadata.model_slug) : "",
  };
  if (message.status === "in_progress") made.state = "cut";
  addThoughts(made, role === "assistant" ? ahead.thoughts : null);
  found.messages.push(made);
  return { message: made, thoughts: null };
}

function addThoughts(message: FoundMessage, thoughts: Reasoning | null): void {
  if (!thoughts?.text) return;
  const had = message.reasoning;
  message.reasoning = had
    ? { text: `${had.text}\n\n${thoughts.text}`, milliseconds: had.milliseconds + thoughts.milliseconds }
    : thoughts;
}

function thought(content: Fields, metadata: Fields, before: Reasoning | null): Reasoning | null {
  const milliseconds = seconds(metadata.finished_duration_sec) * 1000;
  if (content.content_type === "reasoning_recap") {
    return { text: before?.text ?? "", milliseconds: milliseconds || (before?.milliseconds ?? 0) };
  }
  if (content.content_type !== "thoughts") return null;
  const parts = list(content.thoughts).map((one) => {
    const { summary, content: said } = fields(one);
    return [text(summary) && `**${text(summary)}**`, text(said)].filter(Boolean).join("\n\n");
  });
  const all = [before?.text ?? "", ...parts].filter(Boolean).join("\n\n");
  return { text: all, milliseconds: milliseconds || (before?.milliseconds ?? 0) };
}

function seconds(value: unknown): number {
  return typeof value === "number" && value > 0 && value < 1e6 ? value : 0;
}

// References to what a tool found stand between these signs, which no font shows.
const REFERENCE = /\ue200[^\ue200\ue201]*\ue201/g;

function textOf(content: Fields, found: Found): string {
  const kind = text(content.content_type);
  if (kind === "code")
    return `\`\`\`${text(content.language).replace("unknown", "")}\n${text(content.text)}\n\`\`\``;
  if (kind !== "text" && kind !== "multimodal_text" && kind !== "") return "";
  const parts = list(content.parts).map((part) => {
    if (typeof part === "string") return part;
    const { content_type, text: said } = fields(part);
    if (content_type === "audio_transcription") return text(said);
    if (text(content_type).endsWith("_asset_pointer")) found.lost += 1;
    return "";
  });
  return [...parts, text(content.text)].filter(Boolean).join("\n\n").replace(REFERENCE, "");
}

// Files are named in the export, and lie beside it: what they were is said in the text. Pictures are among the parts too.
function attached(metadata: Fields, found: Found): string {
  const files = list(metadata.attachments).map(fields);
  found.lost += files.filter((file) => !text(file.mime_type).startsWith("image/")).length;
  const named = files.map((file) => text(file.name)).filter(Boolean);
  return named.length ? `\n\n[${named.join("] [")}]` : "";
}
