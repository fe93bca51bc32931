import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pending } from "../src/attachments/pending.ts";
import { sensesOf, turnOf } from "../src/attachments/sent.ts";
import { weigh } from "../src/attachments/weight.ts";
import type { Attachment, Message } from "../src/store/rows.ts";

const ID = "00112233-4455-4677-8899-aabbccddeeff";
const BLIND = sensesOf(["chat"]);

function attachment(more: Partial<Attachment> = {}): Attachment {
  const plain = { conversation: "c", name: "a.txt", kind: "text", size: 3, type: "", created: 1 } as const;
  return { id: ID, ...plain, ...more };
}

function message(...attachments: NonNullable<Message["attachments"]>): Message {
  const plain = { parent: "", created: 1, state: "done", model: "" } as const;
  return { id: "m", conversation: "c", role: "user", content: "Sum up.", ...plain, attachments };
}

function attached(more: Partial<Attachment> = {}) {
  return { id: ID, name: more.name ?? "a.txt", kind: more.kind ?? "text", size: 3 } as const;
}

test("a message without files is its text", async () => {
  const { attachments: _none, ...plain } = message();
  assert.deepEqual(await turnOf(plain, async () => undefined, BLIND), { role: "user", content: "Sum up." });
});

test("files stand before the question, with the pages that were chosen", async () => {
  const pages = [
    { name: "page 1", text: "one" },
    { name: "page 2", text: "two" },
  ];
  const row = attachment({ pages, cut: true });
  const { content } = await turnOf(message({ ...attached(), pages: [1] }), async () => row, BLIND);
  assert.match(
    content,
    /^\[0011223344554677 begin of the file "a.txt"; only parts 2 of 2 are here; the end /,
  );
  assert.ok(content.includes("page 2]\ntwo\n") && !content.includes("one"));
  assert.ok(content.endsWith("end of the file]\n\nSum up."));
});

test("what cannot be sent is named in its place, and the question goes on", async () => {
  const picture = attachment({ kind: "image", name: 'a"b.png' });
  const cases: [Attachment | undefined, Partial<Attachment>, string][] = [
    [undefined, {}, '"a.txt" is not here: it was deleted.'],
    [picture, picture, '"a\\"b.png" is not here: this model reads no pictures.'],
    [attachment({ kind: "audio" }), { kind: "audio" }, '"a.txt" is not here: this model reads no sound.'],
  ];
  for (const [row, more, words] of cases) {
    const turn = await turnOf(message(attached(more)), async () => row, BLIND);
    assert.deepEqual(turn, { role: "user", content: `[The file ${words}]\n\nSum up.` });
  }
});

test("what files weigh is told: tokens by pages chosen, bytes as a request has them, and what is not read", () => {
  const pages = [
    { name: "", text: "x".repeat(3_000) },
    { name: "", text: "x".repeat(6_000) },
  ];
  const plain = { name: "a", size: 1, progress: null, reason: "", width: 0, height: 0 } as const;
  const document: Pending = { ...plain, id: "d", row: attachment({ pages }) };
  const bytes = new Blob([new Uint8Array(3_000)]);
  const picture: Pending = {
    ...plain,
    id: "p",
    row: attachment({ kind: "image", bytes }),
    width: 1_000,
    height: 784,
  };
  const model = { id: "m", status: "ready", context_length: 4_096, capabilities: ["chat"] };
  const both = weigh([document, picture], "Sum", model, 13_010);
  assert.deepEqual(both, { tokens: 1 + 3_000 + 1_000, room: 3_584, tooLarge: false, unread: "image" });
  assert.equal(weigh([document, picture], "Sum", model, 13_000).tooLarge, true);
  assert.equal(weigh([{ ...document, chosen: [0] }], "", model, 1e9).tokens, 1_000);
  assert.equal(weigh([picture], "", { ...model, capabilities: ["chat", "vision"] }, 1e9).unread, "");
  assert.equal(weigh([], "", undefined, 1e9).room, Number.POSITIVE_INFINITY);
});
