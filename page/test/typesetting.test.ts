import assert from "node:assert/strict";
import { test } from "node:test";
import katex from "katex";
import { settings } from "../src/markdown/typesetting.ts";
import { milliseconds } from "./processor.ts";

// Without a document KaTeX makes a string of what it would make elements of: the page's work, and a little more.
function drawn(tex: string): string {
  const read = settings(tex, true);
  if (!read) return "";
  try {
    return katex.renderToString(tex, read);
  } catch {
    return "";
  }
}

const LONGEST = 2_500;
const repeated = (unit: string) => unit.repeat(LONGEST / unit.length);
// As deep as a formula may be, as often as there is room; and deeper.
const nested = (open: string, close: string, depth = 55) => {
  const one = `${open.repeat(depth)}1${close.repeat(depth)}`;
  return one.repeat(Math.max(1, LONGEST / one.length));
};
const deep = (open: string, close: string) => {
  const depth = Math.floor((LONGEST - 1) / (open.length + close.length));
  return `${open.repeat(depth)}1${close.repeat(depth)}`;
};
const within = (name: string, unit: string) => {
  const [open, close] = [`\\begin{${name}}`, `\\end{${name}}`];
  return `${open}${unit.repeat((LONGEST - open.length - close.length) / unit.length)}${close}`;
};

const FORMULAS: Record<string, string> = {
  letters: repeated("x"),
  "nested fractions": nested("\\frac{", "}{2}"),
  "deep fractions": deep("\\frac{", "}{2}"),
  "deep brackets": deep("\\left(", "\\right)"),
  "nested roots": nested("\\sqrt{", "}"),
  "nested braces": nested("{", "}"),
  "nested powers": nested("x^{", "}"),
  "nested brackets": nested("\\left(", "\\right)"),
  "nested matrices": nested("\\begin{matrix}", "\\end{matrix}"),
  "nested overlines": nested("\\overline{", "}"),
  "nested choices": nested("\\mathchoice{1}{1}{1}{", "}"),
  "choices of choices": (() => {
    let made = "x";
    while (4 * made.length + 30 < LONGEST) made = `\\mathchoice{${made}}{${made}}{${made}}{${made}}`;
    return made;
  })(),
  cells: within("matrix", "&"),
  rows: within("matrix", "\\\\"),
  "rows of cells": within("aligned", "a&=b\\\\"),
  cases: within("cases", "a&b\\\\"),
  sums: repeated("\\sum_{i=1}^n"),
  primes: repeated("'"),
  braces: repeated("\\underbrace{x}_{y}"),
  hats: repeated("\\widehat{x}"),
  arrows: repeated("\\xrightarrow{a}"),
  boxes: repeated("\\boxed{x}"),
  cancelled: repeated("\\cancel{x}"),
  "marks over letters": repeated("a\u0301\u0302"),
  "other letters": repeated("中"),
  tall: repeated("\\Bigg("),
  "a command that says itself": "\\def\\a{\\a\\a}\\a",
  "a command that says much": `\\def\\a{${"x".repeat(100)}}${"\\a".repeat(40)}`,
  "commands of commands": `\\def\\a{${"x".repeat(20)}}\\def\\b{${"\\a".repeat(15)}}${"\\b".repeat(30)}`,
  "a command with arguments": `\\newcommand{\\a}[1]{${"#1".repeat(20)}}\\a{\\a{\\a{\\a{\\a{x}}}}}`,
};

for (const [name, tex] of Object.entries(FORMULAS)) {
  test(`a formula of ${name} takes less than 50 ms`, () => {
    const spent = milliseconds(() => drawn(tex));
    assert.ok(spent < 50, `${spent} ms`);
    assert.ok(drawn(tex).length < 1_500_000);
  });
}

test("a formula as people write it is drawn, with definitions of its own too", () => {
  for (const tex of [
    "\\int_{-\\infty}^{\\infty} e^{-x^2}\\,dx = \\sqrt{\\pi}",
    "\\newcommand{\\grad}{\\nabla} \\grad f",
    "\\begin{pmatrix}1 & 0\\\\0 & 1\\end{pmatrix}",
  ]) {
    assert.match(drawn(tex), /<math /, tex);
  }
});

test("a formula names no address, class or style of its own", () => {
  for (const tex of [
    "\\href{https://a.example}{b}",
    "\\url{https://a.example}",
    "\\includegraphics{https://a.example/b.png}",
    "\\htmlClass{a}{b}",
    "\\htmlId{a}{b}",
    "\\htmlStyle{top:9px}{b}",
    "\\htmlData{a=b}{c}",
  ]) {
    assert.doesNotMatch(drawn(tex), /href=|src=|id=|data-|class="a"|top:9px;/, tex);
  }
});
