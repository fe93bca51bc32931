import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import katex from "katex";
import { type ComponentChild, h, isValidElement, type VNode } from "preact";
import { separate } from "../src/chat/thinking.ts";
import { footnotes, numbers } from "../src/markdown/footnotes.ts";
import { type Makers, nodes } from "../src/markdown/nodes.ts";
import { references, split } from "../src/markdown/split.ts";
import { settings } from "../src/markdown/typesetting.ts";

// Texts that would run a script or tell another host, by kind; tests/browser/test_injection.py shows them in the page.
const KINDS: Record<string, string[]> = JSON.parse(
  readFileSync(new URL("payloads.json", import.meta.url), "utf8"),
);
const PAYLOADS = Object.values(KINDS).flat();

const formulas: string[] = [];
const MAKERS: Makers = {
  code: (text, language) => h("pre", { lang: language }, text),
  formula: (tex) => {
    formulas.push(tex);
    return h("i", null, tex);
  },
  mention: (number) => h("sup", null, number),
};
const ELEMENTS =
  /^(?:[abipsu]|br|hr|em|strong|del|code|pre|sup|h[3-6]|ul|ol|li|blockquote|div|table|thead|tbody|tr|th|td|label|input)$/;
const ATTRIBUTES = /^(?:children|href|target|rel|start|class|scope|tabIndex|lang|type|disabled|checked)$/;

function places(payload: string): string[] {
  const line = payload.split(/\s+/).join(" ");
  return [
    payload,
    `- ${line}\n\n> ${line}\n\n# ${line}`,
    `| ${line} | b |\n| - | - |\n| ${line} | \`${line}\` |`,
    `[${line}](${line}) ![${line}](${line}) <${line}>\n\n[a]\n\n[a]: ${line}`,
    `$${line}$ \\(${line}\\)\n\n$$\n${line}\n$$\n\n\\[\\text{${line}}\\]`,
    `\`\`\` ${line}\n${line}\n\`\`\``,
    `a[^b]\n\n[^b]: ${line}`,
    separate(`<think>${line}</think>${line}`, true).text,
  ];
}

function assertHarmless(child: ComponentChild): void {
  if (Array.isArray(child)) for (const one of child) assertHarmless(one);
  if (!isValidElement(child)) return;
  const { type, props } = child as VNode<Record<string, unknown>>;
  assert.match(String(type), ELEMENTS);
  for (const [name, value] of Object.entries(props)) {
    assert.match(name, ATTRIBUTES);
    if (name === "href") assert.match(String(value), /^(?:https?:\/\/|mailto:)/i);
  }
  assertHarmless(props.children as ComponentChild);
}

test("there are more than 200 of them, and none twice", () => {
  assert.ok(PAYLOADS.length > 200);
  assert.equal(new Set(PAYLOADS).size, PAYLOADS.length);
});

test("no text makes an element that runs a script or asks another host", () => {
  for (const payload of PAYLOADS) {
    for (const text of places(payload)) {
      const notes = footnotes(text);
      const known = { references: references(text), notes: numbers(notes) };
      const sources = [...split(text).map((part) => part.source), ...notes.map((note) => note.text)];
      for (const source of sources) assertHarmless(nodes(source, known, MAKERS));
    }
  }
});

test("no formula of them has an address or a handler", () => {
  assert.ok(formulas.length > 200);
  for (const tex of formulas) {
    const read = settings(tex, true);
    let drawn = "";
    try {
      drawn = read ? katex.renderToString(tex, read) : "";
    } catch {
      // Its source is shown.
    }
    // What stands in quotation marks or between tags is text.
    const marks = drawn.match(/<[^>]*>/g) ?? [];
    for (const mark of marks)
      assert.doesNotMatch(mark, /^<(?:script|img|iframe|a|object)\b|\s(?:href|src|on\w+)=|url\(/i);
  }
});
