import assert from "node:assert/strict";
import { test } from "node:test";
import type { Model } from "../src/api/api.ts";
import { matching, step } from "../src/chat/offer.ts";
import { folded } from "../src/store/finding.ts";

const MODELS: Model[] = [
  { id: "outside-large", status: "ready", external: true, description: "Résumés" },
  ...Array.from({ length: 59 }, (_, at): Model => ({ id: `model-${at}`, status: "ready" })),
];
const ids = (models: readonly Model[]) => models.map((one) => one.id);

test("without words all are offered, the site's own first", () => {
  const found = matching(MODELS, "  ");
  assert.equal(found.length, 60);
  assert.equal(found.at(-1)?.id, "outside-large");
});

test("each word must be there, in name or description, without marks and capitals", () => {
  assert.deepEqual(ids(matching(MODELS, "58 MODEL")), ["model-58"]);
  assert.deepEqual(ids(matching(MODELS, "resume large")), ["outside-large"]);
  assert.deepEqual(ids(matching(MODELS, "resume model")), []);
  assert.deepEqual(ids(matching(MODELS, "ext", () => "ext")).length, 60);
  assert.equal(folded("ÄÖü"), "aou");
});

test("arrows go round, pages stop at the ends", () => {
  assert.equal(step(0, -1, 5), 4);
  assert.equal(step(4, 1, 5), 0);
  assert.equal(step(3, 8, 5), 4);
  assert.equal(step(3, -8, 5), 0);
  assert.equal(step(-1, 1, 5), 0);
  assert.equal(step(-1, -1, 5), 4);
  assert.equal(step(0, 1, 0), -1);
});
