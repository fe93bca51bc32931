import assert from "node:assert/strict";
import { test } from "node:test";
import { LANGUAGES, words } from "../src/markdown/languages.ts";
import { HOSTILE } from "./hostile.ts";

test("words of code have kinds, and together they are the code", () => {
  const code = 'def a(b):\n    """c\n    d"""\n    return f"{b} <x>"  # e\n';
  const found = words(code, "Python") ?? [];
  assert.equal(found.map((one) => one.text).join(""), code);
  const kinds = new Map(found.map((one) => [one.text, one.kind]));
  assert.equal(kinds.get("def"), "hljs-keyword");
  assert.equal(kinds.get("# e"), "hljs-comment");
});

test("a language's other names count, and one that is not known stays plain", () => {
  for (const name of ["py", "js", "sh", "c++", "yml", "html", "tex", "rs", "JSON"]) {
    assert.ok(words("a", name), name);
  }
  for (const name of ["", "mermaid", "klingon", "__proto__", "constructor"])
    assert.equal(words("a", name), null);
});

test("whatever the code is, no sign of it is lost in any language", () => {
  for (const make of Object.values(HOSTILE)) {
    const code = make(300);
    for (const language of Object.keys(LANGUAGES)) {
      assert.equal(
        words(code, language)
          ?.map((one) => one.text)
          .join(""),
        code,
        language,
      );
    }
  }
});

test("kinds are classes of the style sheet's making, whatever the code says", () => {
  for (const code of ['<a class="hidden">', "class hidden {}", "@hidden", "{hidden}"]) {
    for (const language of Object.keys(LANGUAGES)) {
      for (const { kind } of words(code, language) ?? [])
        assert.match(kind, /^(?:|hljs-[\w.-]+(?: [\w.-]+_)*)$/);
    }
  }
});
