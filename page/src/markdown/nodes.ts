// Markdown to Preact's nodes, by way of markdown-it's tokens: at no time is there a string of HTML. Text only ever
// becomes text, so markup in an answer is shown, not obeyed; of links, only http, https and mailto are made.
import MarkdownIt, { type Token } from "markdown-it";
import { type ComponentChild, h } from "preact";
import { emphasis } from "./emphasis.ts";
import { mentions, type Numbers } from "./footnotes.ts";
import { formulas } from "./math.ts";

// What stands for the parts of an answer that are more than elements.
export interface Makers {
  code: (text: string, language: string) => ComponentChild;
  formula: (tex: string, display: boolean) => ComponentChild;
  // The sign at which the text mentions a footnote.
  mention: (number: number) => ComponentChild;
}

// What the whole text says and each part of it needs: the lines that say where `[name]` leads, and the footnotes' numbers.
export interface Known {
  references: string;
  notes: Numbers;
}

// Deeper lists and quotes are shown flat: nobody reads them, and each level costs all that is in it again.
const DEEPEST = 24;
const BARE_LINK = /(?<![\w:])https?:\/\/[^\s<>"'`\\]{1,2000}/g;
const TRAILING = /[.,;:!?*_~)\]}]{1,20}$/;

const markdown = new MarkdownIt({ html: false, linkify: false, breaks: true, maxNesting: DEEPEST });
markdown.validateLink = isSafe;
emphasis(markdown);
formulas(markdown);
mentions(markdown);

export function isSafe(target: string): boolean {
  return /^(?:https?:\/\/|mailto:)/i.test(target) && URL.canParse(target);
}

const TAGS: Record<string, string> = {
  paragraph: "p",
  blockquote: "blockquote",
  bullet_list: "ul",
  ordered_list: "ol",
  list_item: "li",
  table: "table",
  thead: "thead",
  tbody: "tbody",
  tr: "tr",
  th: "th",
  td: "td",
  em: "em",
  strong: "strong",
  s: "del",
};

interface Open {
  tag: string;
  properties: Record<string, unknown>;
  children: ComponentChild[];
}

export function nodes(source: string, known: Known, makers: Makers): ComponentChild[] {
  const environment = { notes: known.notes };
  if (known.references) markdown.parse(known.references, environment);
  const root: Open = { tag: "", properties: {}, children: [] };
  build(markdown.parse(source, environment), [root], makers);
  return root.children;
}

function build(tokens: readonly Token[], stack: Open[], makers: Makers): void {
  for (const token of tokens) {
    if (token.nesting === 1) stack.push(opened(token, stack.length));
    else if (token.nesting === -1) close(stack);
    else if (token.type === "inline") inline(token.children ?? [], stack, makers);
    else add(stack, single(token, makers));
  }
}

// What is left open within one line of text ends with it.
function inline(tokens: readonly Token[], stack: Open[], makers: Makers): void {
  const depth = stack.length;
  build(tokens, stack, makers);
  while (stack.length > depth) close(stack);
}

function add(stack: Open[], child: ComponentChild): void {
  stack.at(-1)?.children.push(child);
}

function close(stack: Open[]): void {
  if (stack.length < 2) return;
  const made = stack.pop();
  if (!made) return;
  if (!made.tag) {
    for (const child of made.children) add(stack, child);
  } else if (made.tag === "table") {
    add(stack, h("div", { class: "scroll", tabIndex: 0 }, h("table", null, made.children)));
  } else if (made.tag === "li") {
    add(stack, h("li", made.properties, task(made.children)));
  } else {
    add(stack, h(made.tag, made.properties, made.children));
  }
}

function opened(token: Token, depth: number): Open {
  const name = token.type.replace(/_open$/, "");
  const made: Open = { tag: TAGS[name] ?? "", properties: {}, children: [] };
  if (token.hidden || depth > 4 * DEEPEST) made.tag = "";
  // The page has its own first headings: an answer's start below them.
  else if (name === "heading") made.tag = `h${Math.min(Number(token.tag.slice(1)) + 2, 6)}`;
  else if (name === "link") link(token, made);
  else if (name === "ordered_list") made.properties = { start: token.attrGet("start") ?? 1 };
  else if (name === "th" || name === "td") {
    const side = /center|right/.exec(String(token.attrGet("style") ?? ""))?.[0] ?? "left";
    made.properties = name === "th" ? { class: `align-${side}`, scope: "col" } : { class: `align-${side}` };
  }
  return made;
}

function link(token: Token, made: Open): void {
  const target = String(token.attrGet("href") ?? "");
  if (!isSafe(target)) return;
  made.tag = "a";
  made.properties = linkTo(target);
}

function linkTo(target: string): Record<string, unknown> {
  return { href: target, target: "_blank", rel: "noopener noreferrer nofollow" };
}

function single(token: Token, makers: Makers): ComponentChild {
  switch (token.type) {
    case "fence":
    case "code_block":
      return makers.code(
        token.content.replace(/\n$/, ""),
        token.info.trim().slice(0, 40).split(/\s/, 1)[0] ?? "",
      );
    case "formula":
      return makers.formula(token.content, token.markup === "$$");
    case "footnote":
      return makers.mention(Number(token.meta?.number));
    case "hr":
      return h("hr", null);
    case "code_inline":
      return h("code", null, token.content);
    case "softbreak":
    case "hardbreak":
      return h("br", null);
    case "image":
      return image(token);
    default:
      return withLinks(token.content);
  }
}

// The page loads nothing from elsewhere: a picture is offered as a link.
function image(token: Token): ComponentChild {
  const target = String(token.attrGet("src") ?? "");
  return isSafe(target) ? h("a", linkTo(target), token.content || target) : token.content;
}

function withLinks(text: string): ComponentChild {
  if (!text.includes("://")) return text;
  const made: ComponentChild[] = [];
  let at = 0;
  for (const found of text.matchAll(BARE_LINK)) {
    const target = trimmed(found[0]);
    if (!isSafe(target)) continue;
    made.push(text.slice(at, found.index), h("a", linkTo(target), target));
    at = found.index + target.length;
  }
  return made.length ? [...made, text.slice(at)] : text;
}

// Signs after an address belong to the sentence; a bracket that was opened in the address belongs to it.
function trimmed(address: string): string {
  const rest = address.replace(TRAILING, "");
  return rest.includes("(") && address[rest.length] === ")" ? `${rest})` : rest;
}

// An item that begins with [ ] or [x] is something to do.
function task(children: ComponentChild[]): ComponentChild[] {
  const [first, ...rest] = children;
  const found = typeof first === "string" ? /^\[([ xX])\] /.exec(first) : null;
  if (!found || typeof first !== "string") return children;
  const box = h("input", { type: "checkbox", disabled: true, checked: found[1] !== " " });
  return [h("label", { class: "task" }, box, first.slice(found[0].length)), ...rest];
}
