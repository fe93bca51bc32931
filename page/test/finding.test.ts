import assert from "node:assert/strict";
import { test } from "node:test";
import { folded, placeIn } from "../src/store/finding.ts";
import { cleaned, titleFrom } from "../src/store/title.ts";

test("words are found without regard to capitals and accents, with what stands around them", () => {
  assert.equal(folded("ÜBER Straße Œuvre"), "uber straße œuvre");
  assert.equal(placeIn("Nothing of it", "absent"), "");
  assert.equal(placeIn("All of it", "of"), "All of it");
  const long = `${"a ".repeat(100)}Über\n\nalles${" b".repeat(100)}`;
  const place = placeIn(long, "uber");
  assert.ok(place.startsWith("…") && place.endsWith("…") && place.includes("ber alles"), place);
  assert.ok(place.length < 100);
  assert.ok(placeIn("e\u0301 combined", "e combined"));
  assert.ok(placeIn("日本語の文章", folded("の文")).includes("日本語の文章"));
});

test("a title is the first words: whole ones, not too many, without half a sign", () => {
  assert.equal(titleFrom("  Short \n question?  "), "Short question?");
  const long = titleFrom("word ".repeat(1_000));
  assert.ok(long.length <= 61 && long.endsWith("word…"), long);
  for (const text of ["x".repeat(100_000), "😀".repeat(1_000), "語".repeat(500)]) {
    const made = titleFrom(text);
    assert.ok(made.length <= 61 && made.isWellFormed() && made.endsWith("…"), made);
  }
  assert.equal(titleFrom(" \n "), "");
});

test("what a model says for a title loses its marks, its thoughts and what follows", () => {
  assert.equal(cleaned('\n\n**"Lakes of Siberia"**\nBecause'), "Lakes of Siberia");
  assert.equal(cleaned("Title: Lakes."), "Lakes");
  assert.equal(cleaned("<think>hm</think>\n# Seen „von oben“"), "Seen „von oben");
  assert.equal(cleaned("<think>never ends"), "");
  assert.equal(cleaned("x".repeat(500)).length, 60);
  assert.equal(cleaned(""), "");
});
