import assert from "node:assert/strict";
import { test } from "node:test";
import { type ComponentChild, h, isValidElement, type VNode } from "preact";
import { footnotes, numbers } from "../src/markdown/footnotes.ts";
import { type Known, type Makers, nodes } from "../src/markdown/nodes.ts";
import { references, split } from "../src/markdown/split.ts";
import { HOSTILE, randomMarkdown } from "./hostile.ts";
import { milliseconds } from "./processor.ts";

const MAKERS: Makers = {
  code: (text, language) => h("pre", { lang: language }, text),
  formula: (tex, display) => h("i", { class: display ? "display" : "formula" }, tex),
  mention: (number) => h("sup", null, number),
};

function knownOf(text: string): Known {
  return { references: references(text), notes: numbers(footnotes(text)) };
}

function read(text: string): ComponentChild[] {
  return nodes(text, knownOf(text), MAKERS);
}

// HTML-like words for what was made, to compare; nothing escapes anything here.
function shown(child: ComponentChild): string {
  if (Array.isArray(child)) return child.map(shown).join("");
  if (!isValidElement(child)) return String(child ?? "");
  const { type, props } = child as VNode<Record<string, unknown>>;
  const { children, ...rest } = props;
  const attributes = Object.entries(rest).filter(([name]) => ["href", "start", "class"].includes(name));
  const said = attributes.map(([name, value]) => ` ${name}=${value}`).join("");
  return `<${type}${said}>${shown(children as ComponentChild)}</${type}>`;
}

const CASES: [string, string][] = [
  ["# a\n## b", "<h3>a</h3><h4>b</h4>"],
  ["**a** *b* ~~c~~ `d`", "<p><strong>a</strong> <em>b</em> <del>c</del> <code>d</code></p>"],
  ["***x***", "<p><em><strong>x</strong></em></p>"],
  ["これは**「重要」**な点です。", "<p>これは<strong>「重要」</strong>な点です。</p>"],
  ["**「A」**なので**「B」**", "<p><strong>「A」</strong>なので<strong>「B」</strong></p>"],
  [
    "**注意：**本文、*（例）*と~~「旧」~~は",
    "<p><strong>注意：</strong>本文、<em>（例）</em>と<del>「旧」</del>は</p>",
  ],
  [
    "**重要です。**next **스크립트(script)**는",
    "<p><strong>重要です。</strong>next <strong>스크립트(script)</strong>는</p>",
  ],
  ["前**\u{20bb7}野家。**\u{20bb7}", "<p>前<strong>\u{20bb7}野家。</strong>\u{20bb7}</p>"],
  ["「**重要**」と ** 空白 **", "<p>「<strong>重要</strong>」と ** 空白 **</p>"],
  ["日本_語_の **a:**b", "<p>日本_語_の **a:**b</p>"],
  ["a\nb", "<p>a<br></br>b</p>"],
  ["- a\n  - b\n    - c", "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li></ul>"],
  ["3. a\n4. b", "<ol start=3><li>a</li><li>b</li></ol>"],
  ["> a", "<blockquote><p>a</p></blockquote>"],
  ["---", "<hr></hr>"],
  ["<b>a</b>", "<p><b>a</b></p>"],
  ["&lt;b&gt;", "<p><b></p>"],
  ["a https://b.example/c. d", "<p>a <a href=https://b.example/c>https://b.example/c</a>. d</p>"],
  ["(https://b.example/c_(d))", "<p>(<a href=https://b.example/c_(d)>https://b.example/c_(d)</a>)</p>"],
  ["[a]\n\n[a]: https://b.example", "<p><a href=https://b.example>a</a></p>"],
  ["![a](https://b.example/c.png)", "<p><a href=https://b.example/c.png>a</a></p>"],
  ["    a", "<pre>a</pre>"],
  [
    "- [x] a\n- [ ] b",
    "<ul><li><label class=task><input></input>a</label></li><li><label class=task><input></input>b</label></li></ul>",
  ],
  [
    "| a | b |\n| :-: | -: |\n| c \\| d | e |",
    "<div class=scroll><table><thead><tr><th class=align-center>a</th><th class=align-right>b</th></tr></thead>" +
      "<tbody><tr><td class=align-center>c | d</td><td class=align-right>e</td></tr></tbody></table></div>",
  ],
];

// Formulas and what looks like some.
CASES.push(
  ["$x^2$ and $y_1$-axis", "<p><i class=formula>x^2</i> and <i class=formula>y_1</i>-axis</p>"],
  ["\\(a*b*c\\) \\[d\\]", "<p><i class=formula>a*b*c</i> <i class=display>d</i></p>"],
  ["the $n$th of 设$x$为", "<p>the <i class=formula>n</i>th of 设<i class=formula>x</i>为</p>"],
  ["$$a$$ b", "<p><i class=display>a</i> b</p>"],
  ["a\n$$\nb\n- c\n\n+ d\n$$\ne", "<p>a</p><i class=display>b\n- c\n\n+ d</i><p>e</p>"],
  ["- a\n  \\[\n  b\n  \\]", "<ul><li>a<i class=display>b</i></li></ul>"],
  ["$a \\$ b$", "<p><i class=formula>a \\$ b</i></p>"],
  ["$5 and $10", "<p>$5 and $10</p>"],
  ["$5-$10, US$5, 5$ or 6$", "<p>$5-$10, US$5, 5$ or 6$</p>"],
  ["$5 for one and 3$.", "<p>$5 for one and 3$.</p>"],
  ["$HOME/bin:$PATH", "<p>$HOME/bin:$PATH</p>"],
  ["`$a$` and $a `b$ c`", "<p><code>$a$</code> and $a <code>b$ c</code></p>"],
  ["```\n$a$\n```", "<pre>$a$</pre>"],
  ["\\$a$ \\\\(b)", "<p>$a$ \\(b)</p>"],
  ["$$", "<p>$$</p>"],
  ["$$ a", "<p>$$ a</p>"],
  ["$ a$ $$", "<p>$ a$ $$</p>"],
  // Footnotes.
  ["a[^1] b[^x].\n\n[^x]: c\n[^1]: d", "<p>a<sup>1</sup> b<sup>2</sup>.</p>"],
  ["a[^1]", "<p>a[^1]</p>"],
  ["`[^1]` [^1]\n\n[^1]: a\n  b\n\nc", "<p><code>[^1]</code> <sup>1</sup></p><p>c</p>"],
);

for (const [source, expected] of CASES) {
  test(`${JSON.stringify(source)} is read as people mean it`, () => {
    assert.equal(shown(read(source)), expected);
  });
}

const NO_LINKS = [
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java\nscript:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](data:text/html,<script>1</script>)",
  "[x](//evil.example)",
  "[x](/keys)",
  "[x](vbscript:1)",
  "[x](blob:https://a.example/b)",
  "[x](file:///etc/passwd)",
  "![x](javascript:alert(1))",
  "<javascript:alert(1)>",
  "[x]\n\n[x]: javascript:alert(1)",
  "<img src=x onerror=alert(1)>",
];

const HARMLESS = new Set(
  "a p br hr em strong del code pre i sup h3 h4 h5 h6 ul ol li blockquote div table thead tbody tr th td label input".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "children href target rel start class scope tabIndex lang type disabled checked".split(" "),
);

function elements(child: ComponentChild): VNode<Record<string, unknown>>[] {
  if (Array.isArray(child)) return child.flatMap(elements);
  if (!isValidElement(child)) return [];
  const one = child as VNode<Record<string, unknown>>;
  return [one, ...elements(one.props.children as ComponentChild)];
}

test("what leads elsewhere than to http, https and mail is no link", () => {
  for (const text of NO_LINKS) {
    assert.deepEqual(
      elements(read(text)).filter((one) => one.type === "a"),
      [],
      text,
    );
  }
});

function assertHarmless(text: string): void {
  for (const one of elements(read(text))) {
    assert.ok(HARMLESS.has(String(one.type)), String(one.type));
    for (const [name, value] of Object.entries(one.props)) {
      assert.ok(ATTRIBUTES.has(name), name);
      if (name === "href") assert.match(String(value), /^(?:https?:\/\/|mailto:)/i);
    }
  }
}

test("whatever the text, only harmless elements and attributes are made", () => {
  for (const text of [...NO_LINKS, "<a href='https://a.example' onclick=alert(1)>x"]) assertHarmless(text);
  for (let seed = 1; seed <= 200; seed += 1) assertHarmless(randomMarkdown(seed, 3_000));
});

for (const [name, make] of Object.entries(HOSTILE)) {
  test(`no part of ${name} takes 50 ms to read`, () => {
    const text = make(100_000);
    const parts = split(text).filter((part) => part.kind === "prose");
    const known = knownOf(text);
    // They are alike: the first, one from the middle, and the last.
    for (const part of new Set([parts[0], parts[parts.length >> 1], parts.at(-1)])) {
      if (part) assert.ok(milliseconds(() => nodes(part.source, known, MAKERS)) < 50);
    }
  });
}

test("a footnote is what stands behind its name and indented below, and is numbered as it is mentioned", () => {
  const text = "a[^b] [^a]\n\n[^a]: one\n  two\n\n    three\n[^b]: four\n\n[^c]: five\n```\n[^d]: no\n```\n";
  assert.deepEqual(
    footnotes(text).map(({ name, text }) => [name, text]),
    [
      ["b", "four"],
      ["a", "one\ntwo\n\nthree"],
      ["c", "five"],
    ],
  );
});

test("footnotes behind code that only looks like a fence are read, and those in a fence are not", () => {
  const named = (text: string) => footnotes(text).map(({ name }) => name);
  assert.deepEqual(named("```x``` y\n\n[^a]\n\n[^a]: one"), ["a"]);
  assert.deepEqual(named("```\n```js\n[^a]: no\n```\n\n[^b]: yes"), ["b"]);
  assert.deepEqual(named("~~~\n```\n[^a]: no\n~~~\n[^b]: yes"), ["b"]);
});

test("ten times the text takes no more than about ten times the work", () => {
  for (const [name, make] of Object.entries(HOSTILE)) {
    const text = make(1_000_000);
    const spent = milliseconds(() => [split(text), footnotes(text), references(text)]);
    assert.ok(spent < 400, `${name}: ${spent} ms`);
  }
});
