// One message on the page. An answer grows: only its last block is made anew.
import { element, glyph, iconButton } from "./dom.js";
import { parse, render } from "./markdown.js";
import { t } from "./texts.js";

// How often a growing answer is drawn, in milliseconds.
const DRAW_EVERY = 60;

export class Message {
  #role;
  #text = "";
  #body;
  #drawn = [];
  #timer = null;
  #tools = element("div", { className: "tools" });

  constructor(role, text = "") {
    this.#role = role;
    this.#body = element("div", { className: "body" });
    const name = element("span", { className: "hidden" }, role === "user" ? t("you") : t("assistant"));
    this.node = element("article", { className: `message ${role}` }, name, this.#body, this.#tools);
    this.#text = text;
    this.#draw();
  }

  get text() {
    return this.#text;
  }

  get plain() {
    return this.#body.textContent;
  }

  append(piece) {
    this.#text += piece;
    this.#timer ??= setTimeout(() => this.#draw(), DRAW_EVERY);
  }

  // The answer is being written (true) or complete (false).
  set busy(busy) {
    this.node.classList.toggle("busy", busy);
    this.node.ariaBusy = String(busy);
    if (!busy) this.#draw();
  }

  note(text) {
    this.node.querySelector(".note")?.remove();
    if (text) this.#body.after(element("p", { className: "note quiet" }, text));
  }

  offer(tools) {
    this.#tools.replaceChildren(...tools);
  }

  copyTool() {
    return copyButton(() => this.#text, t("copy"));
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#role === "user") {
      this.#body.textContent = this.#text;
      return;
    }
    const blocks = parse(this.#text);
    let same = 0;
    while (same < blocks.length && same < this.#drawn.length && blocks[same].source === this.#drawn[same]) same += 1;
    while (this.#body.childNodes.length > same) this.#body.lastChild.remove();
    this.#body.append(...blocks.slice(same).map((block) => render(block, codeTools)));
    this.#drawn = blocks.map((block) => block.source);
  }
}

function codeTools(text) {
  return [copyButton(() => text, t("copy_code"))];
}

function copyButton(text, label) {
  const button = iconButton("copy", label, async () => {
    await navigator.clipboard.writeText(text());
    button.replaceChildren(glyph("check"));
    button.title = t("copied");
    setTimeout(() => {
      button.replaceChildren(glyph("copy"));
      button.title = label;
    }, 1500);
  });
  button.hidden = !navigator.clipboard;
  return button;
}
