// Open WebUI's export: a list of chats, each with a tree of messages in `chat.history`. What the model thought stands in
// the text, between <details type="reasoning"> and </details>.
import type { Reasoning, Settings } from "../store/rows.ts";
import {
  type Fields,
  type Found,
  type FoundMessage,
  fields,
  fromDataUrl,
  list,
  numbers,
  text,
  time,
} from "./found.ts";

export function isOpenWebUi(row: Fields): boolean {
  const chat = fields(row.chat ?? row);
  return "messages" in fields(chat.history) || (row.chat !== undefined && Array.isArray(chat.messages));
}

export function fromOpenWebUi(row: Fields): Found {
  const chat = fields(row.chat ?? row);
  const created = time(row.created_at) || time(chat.timestamp);
  const found: Found = {
    source: "open-webui",
    id: text(row.id) || text(chat.id),
    title: text(row.title) || text(chat.title),
    titled: "own",
    created,
    updated: time(row.updated_at) || created,
    model: text(list(chat.models)[0]),
    leaf: "",
    pinned: row.pinned === true,
    folder: "",
    settings: settingsOf(chat),
    messages: [],
    files: [],
    lost: 0,
  };
  const history = fields(chat.history);
  const tree = fields(history.messages);
  if (Object.keys(tree).length) fromTree(tree, found);
  else fromList(list(chat.messages).map(fields), found);
  found.leaf = found.messages.some((one) => one.id === history.currentId) ? text(history.currentId) : "";
  return found;
}

function settingsOf(chat: Fields): Settings {
  const params = fields(chat.params);
  const found = numbers(params, ["temperature", "top_p", "max_tokens", "seed"]);
  const system = text(params.system) || text(chat.system);
  return system ? { ...found, system } : found;
}

function fromTree(tree: Fields, found: Found): void {
  const children = new Map<string, string[]>();
  for (const [id, value] of Object.entries(tree)) {
    const parent = text(fields(value).parentId);
    const under = parent in tree && parent !== id ? parent : "";
    const beside = children.get(under);
    if (beside) beside.push(id);
    else children.set(under, [id]);
  }
  // Parents come first. What a message that is left out was followed by follows the one before it.
  const ahead = (children.get("") ?? []).map((id) => ({ id, parent: "" })).reverse();
  for (let next = ahead.pop(); next; next = ahead.pop()) {
    const { id, parent } = next;
    const made = take(fields(tree[id]), id, parent, found);
    for (const child of (children.get(id) ?? []).reverse())
      ahead.push({ id: child, parent: made ? id : parent });
  }
}

function fromList(rows: Fields[], found: Found): void {
  let parent = "";
  for (const [at, row] of rows.entries()) {
    const id = text(row.id) || `${at}`;
    if (take(row, id, parent, found)) parent = id;
  }
}

function take(row: Fields, id: string, parent: string, found: Found): boolean {
  if (row.role === "system") {
    const said = contentOf(row.content);
    if (said) found.settings.system ??= said;
    return false;
  }
  if (row.role !== "user" && row.role !== "assistant") return false;
  const { said, reasoning } = apart(contentOf(row.content));
  const files = filesOf(row, id, found);
  if (!said && !reasoning && !files.length) return false;
  const made: FoundMessage = {
    id,
    parent,
    role: row.role,
    content: said,
    created: time(row.timestamp),
    model: row.role === "assistant" ? text(row.model) : "",
  };
  if (reasoning) made.reasoning = reasoning;
  if (row.done === false) made.state = "cut";
  if (files.length) made.files = files;
  const { prompt_tokens, completion_tokens } = fields(row.usage);
  if (typeof prompt_tokens === "number" && typeof completion_tokens === "number") {
    made.usage = { prompt_tokens, completion_tokens, milliseconds: 0 };
  }
  found.messages.push(made);
  return true;
}

function contentOf(content: unknown): string {
  if (typeof content === "string") return content;
  return list(content)
    .map((part) => text(fields(part).text))
    .filter(Boolean)
    .join("\n\n");
}

function filesOf(row: Fields, message: string, found: Found): string[] {
  const ids: string[] = [];
  for (const [at, file] of list(row.files).map(fields).entries()) {
    const id = `${message}:${at}`;
    const made = fromDataUrl(file.url, id, text(file.name) || "image");
    if (made) {
      found.files.push(made);
      ids.push(id);
    } else {
      found.lost += 1;
    }
  }
  return ids;
}

const OPENS = "<details type=";
const CLOSES = "</details>";

// Takes apart what the model said and what stands beside it: its thoughts, and calls of tools, which are left out.
function apart(all: string): { said: string; reasoning: Reasoning | null } {
  const said: string[] = [];
  const thoughts: string[] = [];
  let milliseconds = 0;
  let at = 0;
  for (;;) {
    const from = all.indexOf(OPENS, at);
    const to = from < 0 ? -1 : all.indexOf(CLOSES, from);
    if (to < 0) break;
    const block = all.slice(from, to);
    const head = block.slice(0, block.indexOf(">") + 1);
    said.push(all.slice(at, from));
    if (head.includes('"reasoning"')) {
      thoughts.push(thoughtIn(block.slice(head.length)));
      milliseconds += 1000 * Number(/ duration="(\d{1,7})"/.exec(head)?.[1] ?? 0);
    }
    at = to + CLOSES.length;
  }
  said.push(all.slice(at));
  const reasoning = thoughts.length ? { text: thoughts.join("\n\n"), milliseconds } : null;
  return { said: reasoning || at ? said.join("").trim() : all, reasoning };
}

const SIGNS: Record<string, string> = {
  "&gt;": ">",
  "&lt;": "<",
  "&quot;": '"',
  "&#x27;": "'",
  "&#39;": "'",
  "&amp;": "&",
};

function thoughtIn(block: string): string {
  const from = block.indexOf("</summary>");
  const quoted = from < 0 ? block : block.slice(from + "</summary>".length);
  const plain = quoted.replace(/&(?:gt|lt|quot|#x27|#39|amp);/g, (sign) => SIGNS[sign] ?? sign);
  return plain.trim().replace(/^> ?/gm, "");
}
