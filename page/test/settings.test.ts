import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, isNothing, later, readNumber, refused, same, usable } from "../src/settings/fields.ts";
import { bare, hidden, visible } from "../src/settings/hidden.ts";
import { isLink, link, readLink } from "../src/settings/links.ts";
import type { Settings } from "../src/store/rows.ts";

test("what was stored comes out usable, whatever it is", () => {
  const good = { system: "Be brief", temperature: 0.5, top_p: 1, max_tokens: 9, seed: 0, persona: "p" };
  assert.deepEqual(usable({ ...good, later: 1 }), good);
  for (const bad of [
    null,
    7,
    "x",
    [],
    {},
    { temperature: "0.5", top_p: 1.1, max_tokens: 0.5, seed: -1, system: 3 },
  ])
    assert.deepEqual(usable(bad), {});
  assert.deepEqual(usable({ temperature: Number.NaN, seed: Number.POSITIVE_INFINITY }), {});
  assert.deepEqual(later({ ...good, reasoning_effort: "high" } as Settings), { reasoning_effort: "high" });
  assert.ok(isNothing({}) && isNothing({ system: "  ", persona: "p" }) && !isNothing({ seed: 0 }));
  assert.ok(same({ ...good, persona: "q" }, good) && !same({}, { seed: 1 }));
});

test("a number is read as people write it, and nothing else is", () => {
  assert.equal(readNumber("temperature", "0,7"), 0.7);
  assert.equal(readNumber("temperature", " 2 "), 2);
  assert.equal(readNumber("seed", ""), null);
  for (const [field, typed] of [
    ["temperature", "2.1"],
    ["temperature", "-1"],
    ["temperature", "1e1"],
    ["top_p", "x"],
    ["max_tokens", "0"],
    ["max_tokens", "1.5"],
    ["seed", "2147483648"],
    ["seed", "１"],
  ] as const)
    assert.equal(readNumber(field, typed), undefined, typed);
});

test("a request has what is set, and a refusal names its field", () => {
  assert.deepEqual(asked({ system: "x", persona: "p", temperature: 0, max_tokens: 5 }), {
    temperature: 0,
    max_tokens: 5,
  });
  assert.equal(refused("temperature"), "temperature");
  assert.equal(refused("max_completion_tokens"), "max_tokens");
  assert.equal(refused("messages"), "");
});

test("a link gives back what it carries", () => {
  const carried = {
    settings: { system: "Sei höflich & kurz\n# 1=2", temperature: 0.25, seed: 7 },
    model: "small-model",
  };
  const made = link("https://chat.example.org/", carried);
  assert.ok(isLink(new URL(made).hash));
  assert.deepEqual(readLink(new URL(made).hash), carried);
});

test("a link with anything else is refused whole", () => {
  for (const said of [
    "",
    "temperature=9",
    "temperature=",
    "temperature=0.1&temperature=0.2",
    "seed=1.5",
    "content=hello",
    "system=x&message=hello",
    "model=../x%20y",
    "model=%3Cscript%3E",
    `system=${"a".repeat(20_000)}`,
  ])
    assert.equal(readLink(`#settings?${said}`), null, said.slice(0, 40));
  assert.equal(readLink("#other?temperature=0.5"), null);
});

test("what a link hides is shown", () => {
  const tricky = "Be kind\u202e.dnik eb\u200b\u{e0041}\u0007";
  const found = readLink(link("", { settings: { system: tricky }, model: "" }));
  assert.equal(found?.settings.system, "Be kind[U+202E].dnik eb[U+200B][U+E0041][U+0007]");
  assert.equal(hidden(tricky), 4);
  assert.equal(bare(tricky), "Be kind.dnik eb");
  assert.equal(visible("a\tb\nc é 日本 👩‍🔬 ❤️"), "a\tb\nc é 日本 👩‍🔬 ❤️");
});
