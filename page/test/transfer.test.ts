import assert from "node:assert/strict";
import { test } from "node:test";
import { strToU8, zipSync } from "fflate";
import type { Found } from "../src/transfer/found.ts";
import { BadJson, JsonReader, TOO_LARGE } from "../src/transfer/json.ts";
import { type Reader, type Result, read, settle } from "../src/transfer/read.ts";
import { CHAT_AI, CHATGPT, OPEN_WEBUI, OWN } from "./exports.ts";

async function readAll(file: Blob, more: Partial<Reader> = {}): Promise<{ found: Found[]; result: Result }> {
  const found: Found[] = [];
  const reader: Reader = {
    signal: new AbortController().signal,
    onFound: async (one) => {
      found.push(one);
      return true;
    },
    onProgress: () => {},
    ...more,
  };
  return { found, result: await read(file, reader) };
}

function json(value: unknown): Blob {
  return new Blob([JSON.stringify(value)]);
}

function zip(files: Record<string, string>): Blob {
  const contents = Object.entries(files).map(([name, text]) => [name, strToU8(text)] as const);
  return new Blob([zipSync(Object.fromEntries(contents)) as Uint8Array<ArrayBuffer>]);
}

// What a conversation says, branch by branch: [role, content, the parent's content].
function turns(found: Found | undefined): string[][] {
  const byId = new Map(found?.messages.map((one) => [one.id, one]));
  return (found?.messages ?? []).map((one) => [one.role, one.content, byId.get(one.parent)?.content ?? ""]);
}

// --- JSON in pieces -----------------------------------------------------------------------------------

function parsed(text: string, size: number, streams: (path: readonly string[]) => boolean = () => false) {
  const elements: unknown[] = [];
  const reader = new JsonReader({ streams, onElement: (value) => elements.push(value), most: 1_000 });
  for (let at = 0; at < text.length; at += size) reader.feed(text.slice(at, at + size));
  return { rest: reader.end(), elements };
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

test("JSON comes out as it went in, whatever pieces it comes in", () => {
  const values = [
    { a: [1, -2.5e3, true, false, null], b: { 'c\n"\\': "é\u2028\ud83d\ude00" }, "": {} },
    'only a text with \\ and " in it',
    [[], [[]], {}, { a: {} }],
    12,
    "",
  ];
  for (const value of values) {
    for (const text of [JSON.stringify(value), `\ufeff ${JSON.stringify(value, null, 3)}\n`]) {
      for (const size of [1, 2, 7, text.length]) assert.deepEqual(plain(parsed(text, size).rest), value);
    }
  }
});

test("elements of a list are handed over one by one, and are not kept", () => {
  const text = JSON.stringify({ before: 1, rows: [{ a: 1 }, "x", [2]], after: { rows: [3] } });
  for (const size of [1, 3, text.length]) {
    const { rest, elements } = parsed(text, size, (path) => path.join() === "rows");
    assert.deepEqual(plain(elements), [{ a: 1 }, "x", [2]]);
    assert.deepEqual(plain(rest), { before: 1, rows: [], after: { rows: [3] } });
  }
});

test("what is no JSON is refused where it ceases to be", () => {
  const wrong: [string, BadJson["fault"], number][] = [
    ["[1, 2", "end", 5],
    ['{"a": "b', "end", 8],
    ["", "end", 0],
    ["[1 2]", "syntax", 3],
    ['{"a" 1}', "syntax", 5],
    ["{1: 2}", "syntax", 1],
    ["[}", "syntax", 1],
    ["nonsense", "syntax", 0],
    ["[1],", "syntax", 3],
    ["[1][", "syntax", 3],
    ['["\\x"]', "syntax", 5],
    ["[".repeat(101), "deep", 100],
    ["<html>", "syntax", 0],
  ];
  for (const [text, fault, at] of wrong) {
    for (const size of [1, 1_000]) {
      assert.throws(
        () => parsed(text, size),
        (error: unknown) => {
          assert.ok(error instanceof BadJson, String(error));
          assert.equal(error.fault, fault, text);
          if (fault !== "syntax") assert.equal(error.at, at, text);
          return true;
        },
      );
    }
  }
});

test("commas that people leave, numbers that are none and names with a meaning are taken", () => {
  assert.deepEqual(plain(parsed('{"a": [1, 2,], "b": NaN,}', 1).rest), { a: [1, 2], b: null });
  const { rest } = parsed('{"__proto__": {"polluted": true}, "constructor": 1}', 1_000);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
  assert.deepEqual(Object.keys(rest as object), ["__proto__", "constructor"]);
});

test("an element that is too large is passed over, and those after it are read", () => {
  const text = JSON.stringify([{ a: 1 }, { a: "x".repeat(3_000), b: [1] }, { a: 2 }]);
  for (const size of [50, 100_000]) {
    const { elements } = parsed(text, size, (path) => !path.length);
    assert.deepEqual(
      elements.map((one) => (one === TOO_LARGE ? "large" : plain(one))),
      [{ a: 1 }, "large", { a: 2 }],
    );
  }
});

test("numbers and brackets make an element large too", () => {
  for (const large of [{ a: Array(2_000).fill(1) }, Array(2_000).fill({}), Array(1_000).fill([[]])]) {
    const { elements } = parsed(JSON.stringify([{ a: 1 }, large, { a: 2 }]), 50, (path) => !path.length);
    assert.deepEqual(
      elements.map((one) => (one === TOO_LARGE ? "large" : plain(one))),
      [{ a: 1 }, "large", { a: 2 }],
    );
  }
});

// --- Each product's form --------------------------------------------------------------------------------

test("ChatGPT's export is read with branches, thoughts and models, without what nobody saw", async () => {
  const { found, result } = await readAll(json(CHATGPT));
  assert.deepEqual([result.ending, result.unknown], ["complete", 1]);
  const [paris] = found;
  assert.equal(found.length, 2);
  assert.deepEqual(
    [paris?.source, paris?.id, paris?.title],
    ["chatgpt", CHATGPT[0]?.conversation_id, "Paris"],
  );
  assert.deepEqual([paris?.created, paris?.model, paris?.pinned], [1_700_000_000_500, "gpt-5", true]);
  assert.deepEqual(turns(paris), [
    ["user", "Capital of France?\n\n[map.pdf]", ""],
    ["assistant", "Let me see.\n\nParis.", "Capital of France?\n\n[map.pdf]"],
    ["user", "Sure?", "Let me see.\n\nParis."],
    ["assistant", "Yes.", "Sure?"],
    ["user", "Really?", "Let me see.\n\nParis."],
  ]);
  const [, answer] = paris?.messages ?? [];
  assert.deepEqual(answer?.reasoning, {
    text: "**Thinking of maps**\n\nFrance is in Europe.",
    milliseconds: 7_000,
  });
  assert.equal(answer?.model, "gpt-5-thinking");
  assert.equal(paris?.leaf, paris?.messages.find((one) => one.content === "Yes.")?.id);
  assert.equal(paris?.lost, 2);
});

test("Open WebUI's export is read with branches, thoughts, settings, pictures and usage", async () => {
  const { found, result } = await readAll(json(OPEN_WEBUI));
  assert.deepEqual([result.ending, found.length], ["complete", 2]);
  const [one, old] = found;
  assert.deepEqual([one?.source, one?.id, one?.title, one?.pinned], ["open-webui", "chat-1", "Rivers", true]);
  assert.deepEqual([one?.created, one?.updated], [1_700_000_000_000, 1_700_000_100_000]);
  assert.deepEqual(one?.settings, { temperature: 0.2, system: "Be short." });
  assert.deepEqual(turns(one), [
    ["user", "Longest river?", ""],
    ["assistant", "The Nile.", "Longest river?"],
    ["assistant", "The Amazon.", "Longest river?"],
  ]);
  const [question, nile, amazon] = one?.messages ?? [];
  assert.deepEqual(nile?.reasoning, { text: "Nile > Amazon?\nYes.", milliseconds: 3_000 });
  assert.deepEqual(nile?.usage, { prompt_tokens: 9, completion_tokens: 4, milliseconds: 0 });
  assert.deepEqual([amazon?.model, amazon?.state, one?.leaf], ["qwen", "cut", "m2"]);
  assert.equal(question?.files?.length, 1);
  assert.deepEqual([one?.files[0]?.type, one?.files[0]?.kind, one?.lost], ["image/png", "image", 1]);
  assert.deepEqual(turns(old), [
    ["user", "Hello", ""],
    ["assistant", "Hi", "Hello"],
  ]);
});

test("Chat AI's exports are read, one conversation, several, and its copy of all data", async () => {
  const { found } = await readAll(json(CHAT_AI));
  const [one] = found;
  assert.deepEqual([one?.source, one?.title, one?.model], ["chat-ai", "Lakes", "llama-3.3-70b-instruct"]);
  assert.deepEqual(one?.settings, { temperature: 0.5, top_p: 0.9, system: "You know lakes." });
  assert.deepEqual(turns(one), [
    ["user", "Deepest lake?", ""],
    ["assistant", "Baikal.", "Deepest lake?"],
    ["user", "And this?", "Baikal."],
  ]);
  assert.deepEqual(one?.messages[1]?.reasoning, { text: "Lake Baikal, in Siberia.", milliseconds: 0 });
  assert.deepEqual(
    one?.files.map(({ name, kind, type }) => [name, kind, type]),
    [
      ["image", "image", "image/png"],
      ["notes.txt", "text", "text/plain"],
    ],
  );
  const copy = {
    version: 2,
    conversations: { conversations: [CHAT_AI, { ...CHAT_AI, id: "c2", title: "Two" }] },
  };
  for (const several of [copy, { conversations: copy.conversations.conversations }]) {
    const all = await readAll(json(several));
    assert.deepEqual(
      all.found.map((each) => each.title),
      ["Lakes", "Two"],
    );
    assert.equal(all.result.unknown, 0);
  }
  const bare = await readAll(json(CHAT_AI.messages));
  assert.equal(turns(bare.found[0]).length, 3);
});

test("this page's own export is read as it was written", async () => {
  const { found, result } = await readAll(json(OWN));
  assert.deepEqual([result.ending, found.length], ["complete", 1]);
  const [one] = found;
  assert.deepEqual([one?.source, one?.folder, one?.pinned, one?.titled], ["sluice", "Work", true, "own"]);
  assert.deepEqual(
    one?.messages.map((each) => each.id),
    OWN.conversations[0]?.messages.map((each) => each.id),
  );
  assert.equal(one?.files[0]?.pages?.[0]?.text, "first page");
  const cut = {
    ...OWN.conversations[0],
    attachments: [{ ...OWN.conversations[0]?.attachments[0], cut: true }],
  };
  const again = await readAll(json({ ...OWN, conversations: [cut] }));
  assert.ok(again.found[0]);
  assert.equal((await settle(again.found[0])).attachments[0]?.cut, true);
  assert.deepEqual(plain(result.rest.personas), OWN.personas);
});

test("an export of a later version is refused, not half understood", async () => {
  const { found, result } = await readAll(json({ ...OWN, version: 2 }));
  assert.deepEqual([result.ending, found.length], ["newer", 0]);
});

// --- Archives ---------------------------------------------------------------------------------------------

test("ChatGPT's archive is read as its list of conversations is, in one file or several", async () => {
  const text = JSON.stringify(CHATGPT);
  const one = await readAll(zip({ "chat.html": "<html>".repeat(5_000), "conversations.json": text }));
  assert.deepEqual([one.result.ending, one.found.length], ["complete", 2]);
  const two = await readAll(
    zip({ "export/conversations-000.json": text, "export/conversations-001.json": text }),
  );
  assert.deepEqual([two.result.ending, two.found.length], ["complete", 4]);
});

test("an archive without conversations, a broken one and one that is cut say what they are", async () => {
  const empty = await readAll(zip({ "notes.txt": "x" }));
  assert.equal(empty.result.ending, "zip-empty");
  const whole = zip({ "conversations.json": JSON.stringify(CHATGPT) });
  const cut = await readAll(whole.slice(0, whole.size / 3));
  assert.ok(["end", "zip-broken", "zip-empty"].includes(cut.result.ending), cut.result.ending);
  const bytes = new Uint8Array(await whole.arrayBuffer());
  bytes.fill(255, 60, 200);
  const broken = await readAll(new Blob([bytes]));
  assert.ok(["syntax", "zip-broken"].includes(broken.result.ending), broken.result.ending);
});

test("an archive that would fill the memory is given up, early and in bounded memory", async () => {
  const mebibyte = " ".repeat(2 ** 20);
  const blanks = await readAll(zip({ "conversations.json": `[${mebibyte.repeat(32)}]` }));
  assert.equal(blanks.result.ending, "complete");
  const texts = `[{"mapping": {}, "title": "${"x".repeat(40 * 2 ** 20)}"}, {"messages": [], "leaf": ""}]`;
  const large = await readAll(zip({ "conversations.json": texts }));
  assert.deepEqual([large.result.ending, large.result.large, large.found.length], ["complete", 1, 1]);
});

// --- Faults ---------------------------------------------------------------------------------------------

test("a file that breaks off gives what came before, and says that it broke off", async () => {
  const text = JSON.stringify(CHATGPT);
  const { found, result } = await readAll(new Blob([text.slice(0, text.length - 30)]));
  assert.deepEqual([found.length, result.ending], [1, "end"]);
  const nonsense = await readAll(new Blob([`${text.slice(0, -1)}, <<<`]));
  assert.equal(nonsense.result.ending, "syntax");
  assert.ok(nonsense.result.at > 100);
});

test("other files, pictures, empty ones and deep ones are refused with a reason, and nothing is raised", async () => {
  const files: [BlobPart, string][] = [
    ["", "end"],
    ["hello", "syntax"],
    ["<!doctype html>", "syntax"],
    [new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0, 1, 2]), "syntax"],
    [`${"[".repeat(50_000)}`, "deep"],
    [`{"a":${"[".repeat(50_000)}`, "deep"],
    ["null", "complete"],
    ["[]", "complete"],
    ["[1,2,[3]]", "complete"],
    ['{"conversations": 7}', "complete"],
  ];
  for (const [content, ending] of files) {
    const { found, result } = await readAll(new Blob([content]));
    assert.deepEqual([result.ending, found.length], [ending, 0], String(content).slice(0, 20));
  }
});

test("hostile conversations do no harm: circles, strange values, thirty thousand nodes", async () => {
  const circle = {
    a: {
      message: { author: { role: "user" }, content: { parts: ["x"] } },
      parent: "b",
      children: ["b", "b", "a"],
    },
    b: { message: null, parent: "a", children: ["a"] },
  };
  const chain: Record<string, unknown> = {};
  for (let at = 0; at < 30_000; at += 1) {
    chain[`n${at}`] = {
      message: {
        author: { role: at % 2 ? "assistant" : "user" },
        content: { content_type: "text", parts: [`${at}`] },
      },
      parent: at ? `n${at - 1}` : null,
      children: [`n${at + 1}`],
    };
  }
  const strange = {
    a: null,
    b: 7,
    c: { message: { author: 3, content: [], metadata: "x" }, children: "no" },
  };
  const { found, result } = await readAll(
    json([
      { mapping: circle },
      { mapping: chain },
      { mapping: strange },
      { chat: { history: { messages: { a: { parentId: "a" } } } } },
    ]),
  );
  assert.deepEqual([result.ending, found.length], ["complete", 4]);
  assert.equal(found[1]?.messages.length, 30_000);
});

test("50 MB are read in pieces, between which the browser gets its turn, and can be cancelled", async () => {
  const body = "word ".repeat(10_000);
  const many = Array.from({ length: 1_000 }, (_none, at) => ({
    ...OWN.conversations[0],
    id: `c${at}`,
    messages: [
      { id: `m${at}`, parent: "", role: "user", content: body, created: 1, state: "done", model: "" },
    ],
  }));
  const file = json({ ...OWN, conversations: many });
  assert.ok(file.size > 50_000_000);
  let turnsTaken = 0;
  const counting = setInterval(() => (turnsTaken += 1));
  const parts: number[] = [];
  const { found, result } = await readAll(file, { onProgress: (part) => parts.push(part) });
  clearInterval(counting);
  assert.deepEqual([result.ending, found.length], ["complete", 1_000]);
  assert.ok(turnsTaken > 5, `${turnsTaken}`);
  assert.equal(parts.at(-1), 1);
  assert.ok(parts.every((part, at) => part >= (parts[at - 1] ?? 0)));
  const stopping = new AbortController();
  const some = await readAll(file, {
    signal: stopping.signal,
    onProgress: (part) => part > 0.1 && stopping.abort(),
  });
  assert.equal(some.result.ending, "cancelled");
  assert.ok(some.found.length < 500);
  let taken = 0;
  const onFound = async () => {
    taken += 1;
    return taken < 3;
  };
  const stopped = await readAll(file, { onFound });
  assert.deepEqual([stopped.result.ending, taken], ["stopped", 3]);
});

test("an import can be cancelled while the pictures of an archive are passed over", async () => {
  const picture = new Uint8Array(8 << 20).map((_none, at) => (at * 2_654_435_761) >>> 13);
  const archive = zipSync({ "a.png": [picture, { level: 0 }], "conversations.json": strToU8("[]") });
  const stopping = new AbortController();
  const { result } = await readAll(new Blob([archive as Uint8Array<ArrayBuffer>]), {
    signal: stopping.signal,
    onProgress: (part) => part > 0.1 && stopping.abort(),
  });
  assert.equal(result.ending, "cancelled");
});

// --- Rows of what was found ---------------------------------------------------------------------------------

test("what is found becomes rows with the same ids each time, and the times keep the order of branches", async () => {
  for (const file of [CHATGPT, OPEN_WEBUI, CHAT_AI, OWN]) {
    const { found } = await readAll(json(file));
    for (const one of found.filter((each) => each.messages.length)) {
      const rows = await settle(one);
      const [conversation] = rows.conversations;
      assert.match(conversation?.id ?? "", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      const again = await settle(one);
      assert.deepEqual(
        again.messages.map((row) => [row.id, row.parent]),
        rows.messages.map((row) => [row.id, row.parent]),
      );
      const ids = new Set(rows.messages.map((row) => row.id));
      assert.equal(ids.size, one.messages.length);
      for (const row of rows.messages) {
        assert.equal(row.conversation, conversation?.id);
        assert.ok(row.parent === "" || ids.has(row.parent));
        for (const file of row.attachments ?? []) {
          assert.ok(
            rows.attachments.some((each) => each.id === file.id),
            file.id,
          );
        }
      }
      assert.ok(conversation?.leaf === "" || ids.has(conversation?.leaf ?? ""));
      const times = rows.messages.map((row) => row.created);
      if (one.source !== "sluice")
        assert.deepEqual(
          times,
          [...new Set(times)].sort((a, b) => a - b),
        );
    }
  }
});

test("pictures become bytes and texts become pages, and what is no base64 is left out", async () => {
  const { found } = await readAll(json(CHAT_AI));
  const [one] = found;
  assert.ok(one);
  const { attachments } = await settle(one);
  const [image, notes] = attachments;
  assert.deepEqual([image?.bytes?.type, image?.bytes?.size], ["image/png", 70]);
  assert.deepEqual(notes?.pages, [{ name: "", text: "hello" }]);
  const broken = { ...one, files: one.files.map((file) => ({ ...file, base64: "§§§" })) };
  const rows = await settle(broken);
  assert.deepEqual([rows.attachments, rows.messages[2]?.attachments], [[], undefined]);
});

test("hostile ids and values of this page's own form become ids and values of the page", async () => {
  const hostile = {
    ...OWN,
    conversations: [
      {
        id: "../../admin",
        leaf: "<x>",
        title: " ",
        created: "yesterday",
        settings: { temperature: "hot", system: "x" },
        messages: [
          { id: "<script>", parent: "gone", role: "root", content: 7, state: "writing", usage: 3 },
          { id: "b".repeat(5_000), parent: "<script>", role: "user", content: "Hello there", state: "lost" },
        ],
        attachments: [{ id: 7, name: {}, kind: "hologram", pages: [null, { text: 3 }] }],
      },
    ],
  };
  const { found, result } = await readAll(json(hostile));
  assert.equal(result.ending, "complete");
  const [one] = found;
  assert.ok(one);
  const { conversations, messages, attachments } = await settle(one);
  assert.match(conversations[0]?.id ?? "", /^[0-9a-f-]{36}$/);
  assert.deepEqual([conversations[0]?.title, conversations[0]?.settings], ["Hello there", { system: "x" }]);
  const [first, second] = messages;
  assert.deepEqual([first?.state, first?.role, first?.content, first?.parent], ["cut", "assistant", "", ""]);
  assert.deepEqual([second?.state, second?.parent], ["done", first?.id]);
  assert.ok(messages.every((row) => /^[\w:-]{1,120}$/.test(row.id)));
  assert.deepEqual(attachments[0]?.kind, "text");
});
