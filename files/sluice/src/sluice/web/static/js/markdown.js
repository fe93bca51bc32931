// Markdown to elements. Text only ever becomes text nodes, so markup in an answer is shown, not obeyed; of links,
// only http, https and mailto are made.
import { element } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const MAX_DEPTH = 8;

// Cuts text into blocks: {type, source, …}. Equal sources make equal blocks, so a growing answer re-makes its last alone.
export function parse(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const start = at;
    const [block, next] = readBlock(lines, at, depth);
    at = Math.max(next, start + 1);
    blocks.push({ ...block, source: lines.slice(start, at).join("\n") });
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return readFence(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [{ type: "heading", level: heading[1].length, text: heading[2] }, at + 1];
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (depth < MAX_DEPTH && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < MAX_DEPTH && ITEM.test(line)) return readList(lines, at, depth);
  if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) return readTable(lines, at);
  return readParagraph(lines, at);
}

function readFence(lines, at) {
  const [, marks, language] = FENCE.exec(lines[at]);
  const code = [];
  let next = at + 1;
  while (next < lines.length) {
    const closing = lines[next].trim();
    if (closing.length >= marks.length && closing === marks[0].repeat(closing.length)) return [{ type: "code", language, text: code.join("\n") }, next + 1];
    code.push(lines[next]);
    next += 1;
  }
  return [{ type: "code", language, text: code.join("\n") }, next];
}

function readQuote(lines, at, depth) {
  const inner = [];
  let next = at;
  while (next < lines.length && QUOTE.test(lines[next])) {
    inner.push(QUOTE.exec(lines[next])[1]);
    next += 1;
  }
  return [{ type: "quote", blocks: parse(inner.join("\n"), depth + 1) }, next];
}

function readList(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const indent = first[1].length;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let next = at;
  while (next < lines.length) {
    const item = ITEM.exec(lines[next]);
    if (!item || item[1].length > indent + 1 || item[1].length < indent || /\d/.test(item[2]) !== ordered) break;
    const body = [item[3]];
    next += 1;
    while (next < lines.length && belongsToItem(lines, next, indent)) {
      body.push(lines[next].replace(/^\s{1,4}/, ""));
      next += 1;
    }
    items.push(parse(body.join("\n"), depth + 1));
  }
  return [{ type: "list", ordered, start: ordered ? Number.parseInt(first[2], 10) : 1, items }, next];
}

function belongsToItem(lines, at, indent) {
  const line = lines[at];
  if (!line.trim()) return at + 1 < lines.length && indentation(lines[at + 1]) > indent + 1;
  if (indentation(line) > indent + 1) return true;
  // A line that goes on with the paragraph, without indentation.
  return !ITEM.test(line) && !FENCE.test(line) && !HEADING.test(line) && !QUOTE.test(line) && !RULE.test(line) && Boolean(lines[at - 1].trim());
}

function indentation(line) {
  return line.length - line.trimStart().length;
}

function readTable(lines, at) {
  const sides = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left"));
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|")) {
    rows.push(cells(lines[next]));
    next += 1;
  }
  return [{ type: "table", head: cells(lines[at]), sides, rows }, next];
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function readParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && lines[next].trim() && !interrupts(lines[next])) next += 1;
  return [{ type: "paragraph", text: lines.slice(at, next).join("\n") }, next];
}

function interrupts(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line) || ITEM.test(line);
}

export function render(block, codeTools = () => []) {
  switch (block.type) {
    case "heading":
      // The page has its own first headings: an answer's start below them.
      return element(`h${Math.min(block.level + 2, 6)}`, {}, ...inline(block.text));
    case "rule":
      return element("hr");
    case "code":
      return codeBlock(block, codeTools);
    case "quote":
      return element("blockquote", {}, ...block.blocks.map((inner) => render(inner, codeTools)));
    case "list":
      return list(block, codeTools);
    case "table":
      return table(block);
    default:
      return element("p", {}, ...inline(block.text));
  }
}

function codeBlock(block, codeTools) {
  const code = element("code", {}, block.text);
  const bar = element("div", { className: "code-bar" }, element("span", {}, block.language || ""), ...codeTools(block.text));
  return element("div", { className: "code" }, bar, element("pre", { tabIndex: 0 }, code));
}

function list(block, codeTools) {
  const items = block.items.map((blocks) => {
    const tight = blocks.length && blocks[0].type === "paragraph";
    const rest = (tight ? blocks.slice(1) : blocks).map((inner) => render(inner, codeTools));
    return element("li", {}, ...(tight ? inline(blocks[0].text) : []), ...rest);
  });
  return block.ordered ? element("ol", { start: block.start }, ...items) : element("ul", {}, ...items);
}

function table(block) {
  const row = (tag, texts) => element("tr", {}, ...texts.map((text, at) => element(tag, { className: `align-${block.sides[at] ?? "left"}` }, ...inline(text))));
  const head = element("thead", {}, row("th", block.head));
  const body = element("tbody", {}, ...block.rows.map((texts) => row("td", texts)));
  return element("div", { className: "scroll", tabIndex: 0 }, element("table", {}, head, body));
}

const TOKENS = [
  { pattern: /\\([!-/:-@[-`{-~])/y, make: (match) => match[1] },
  { pattern: /(`+)([^`]|[^`][\s\S]{0,4000}?[^`])\1(?!`)/y, make: (match) => element("code", {}, match[2].replace(/^ (.*) $/s, "$1")) },
  { pattern: /\*\*(?=\S)((?:[^*]|\*(?!\*)){1,2000}?\S)\*\*|__(?=\S)([^_]{1,2000}\S|\S)__/y, make: (match, depth) => element("strong", {}, ...inline(match[1] ?? match[2], depth + 1)) },
  { pattern: /\*(?=[^\s*])([^*]{1,2000})\*(?!\*)/y, make: (match, depth) => element("em", {}, ...inline(match[1], depth + 1)) },
  { pattern: /(?<!\w)_(?=[^\s_])([^_]{1,2000})_(?!\w)/y, make: (match, depth) => element("em", {}, ...inline(match[1], depth + 1)) },
  { pattern: /~~(?=\S)([^~]{1,2000})~~/y, make: (match, depth) => element("del", {}, ...inline(match[1], depth + 1)) },
  { pattern: /\[([^\]\n]{1,500})\]\(<?([^\s<>()]{1,2000}(?:\([^\s()]*\)[^\s<>()]*)?)>?(?:\s+"[^"\n]*")?\)/y, make: (match, depth) => link(match[2], inline(match[1], depth + 1)) ?? match[0] },
  { pattern: /<?(https?:\/\/[^\s<>"')\]]{1,2000}[^\s<>"')\].,;:!?])>?/y, make: (match) => link(match[1], [match[1]]) ?? match[0] },
  { pattern: / {2,}\n|\n/y, make: () => element("br") },
];
const STARTS = /[\\`*_~[<\n ]|https?:/g;

// Turns one block's text into text nodes and inline elements.
function inline(text, depth = 0) {
  if (depth > MAX_DEPTH) return [text];
  const nodes = [];
  let plainFrom = 0;
  let at = 0;
  while (at < text.length) {
    STARTS.lastIndex = at;
    const start = STARTS.exec(text);
    if (!start) break;
    const found = matchAt(text, start.index);
    if (!found) {
      at = start.index + 1;
      continue;
    }
    if (start.index > plainFrom) nodes.push(text.slice(plainFrom, start.index));
    nodes.push(found.token.make(found.match, depth));
    at = start.index + found.match[0].length;
    plainFrom = at;
  }
  if (plainFrom < text.length) nodes.push(text.slice(plainFrom));
  return nodes;
}

function matchAt(text, index) {
  for (const token of TOKENS) {
    token.pattern.lastIndex = index;
    const match = token.pattern.exec(text);
    if (match) return { token, match };
  }
  return null;
}

function link(target, children) {
  if (!/^(?:https?:\/\/|mailto:)/i.test(target) || !URL.canParse(target)) return null;
  return element("a", { href: target, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}
