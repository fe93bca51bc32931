// Which words of code are keywords, texts, comments. This runs in a worker (colouring.ts): for some texts it takes the square
// of their length.
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cmake from "highlight.js/lib/languages/cmake";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import fortran from "highlight.js/lib/languages/fortran";
import go from "highlight.js/lib/languages/go";
import haskell from "highlight.js/lib/languages/haskell";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import julia from "highlight.js/lib/languages/julia";
import kotlin from "highlight.js/lib/languages/kotlin";
import latex from "highlight.js/lib/languages/latex";
import lua from "highlight.js/lib/languages/lua";
import makefile from "highlight.js/lib/languages/makefile";
import markdown from "highlight.js/lib/languages/markdown";
import matlab from "highlight.js/lib/languages/matlab";
import nginx from "highlight.js/lib/languages/nginx";
import perl from "highlight.js/lib/languages/perl";
import php from "highlight.js/lib/languages/php";
import powershell from "highlight.js/lib/languages/powershell";
import python from "highlight.js/lib/languages/python";
import pythonRepl from "highlight.js/lib/languages/python-repl";
import r from "highlight.js/lib/languages/r";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import scala from "highlight.js/lib/languages/scala";
import scss from "highlight.js/lib/languages/scss";
import shell from "highlight.js/lib/languages/shell";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";

export const LANGUAGES = {
  bash,
  c,
  cmake,
  cpp,
  csharp,
  css,
  diff,
  dockerfile,
  fortran,
  go,
  haskell,
  ini,
  java,
  javascript,
  json,
  julia,
  kotlin,
  latex,
  lua,
  makefile,
  markdown,
  matlab,
  nginx,
  perl,
  php,
  powershell,
  python,
  "python-repl": pythonRepl,
  r,
  ruby,
  rust,
  scala,
  scss,
  shell,
  sql,
  swift,
  typescript,
  xml,
  yaml,
};

const known = createLowlight(LANGUAGES);

// A word with its kind, which is a class of the style sheet; "" for none.
export interface Word {
  kind: string;
  text: string;
}

type Tree = ReturnType<typeof known.highlight>;
type Node = Tree["children"][number];

// The words of code, in order: joined they are the code. Null for a language that is not known.
export function words(code: string, language: string): Word[] | null {
  const name = language.toLowerCase();
  if (!known.registered(name)) return null;
  const made: Word[] = [];
  gather(known.highlight(name, code).children, "", made);
  return made;
}

// Of kinds within each other, the innermost counts.
function gather(nodes: readonly Node[], kind: string, into: Word[]): void {
  for (const node of nodes) {
    if (node.type === "element") {
      const names = node.properties.className;
      gather(node.children as Node[], Array.isArray(names) ? names.join(" ") : kind, into);
    } else if (node.type === "text") {
      const last = into.at(-1);
      if (last?.kind === kind) last.text += node.value;
      else into.push({ kind, text: node.value });
    }
  }
}
