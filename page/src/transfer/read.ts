// Reads a file of conversations in whichever form it is, in pieces: each conversation is handed over as soon as it is
// complete, and the browser gets its turn between them.
import { fromChatAi, isChatAi } from "./chatai.ts";
import { fromChatGpt, isChatGpt } from "./chatgpt.ts";
import { FORMAT, VERSION } from "./form.ts";
import { type Fields, type Found, fields } from "./found.ts";
import { BadJson, JsonReader, TOO_LARGE } from "./json.ts";
import { fromOpenWebUi, isOpenWebUi } from "./openwebui.ts";
import { fromOwn, isOwn } from "./own.ts";

export { settle } from "./settle.ts";

// How much of the file is read at a time, in bytes, and how long this may go on before the browser gets its turn.
const CHUNK = 65_536;
const TURN = 12;
// One conversation is so many characters at most.
const MOST = 32_000_000;

// Why not everything came in. syntax, deep, end: as in json.ts. zip-…: as in zip.ts. newer: a later version of this page
// wrote it. stopped: whoever took the conversations said so. unreadable: the browser could not read the file.
export type Ending =
  | "complete"
  | "cancelled"
  | "syntax"
  | "deep"
  | "end"
  | "zip-bomb"
  | "zip-empty"
  | "zip-broken"
  | "newer"
  | "stopped"
  | "unreadable";

export interface Result {
  ending: Ending;
  // Where, for syntax: which character.
  at: number;
  // How many conversations no form fitted, and how many were too large.
  unknown: number;
  large: number;
  // What else an export of this page has: folders and the like.
  rest: Record<string, unknown>;
}

export interface Reader {
  signal: AbortSignal;
  // Takes a conversation; returns false to end here.
  onFound: (found: Found) => Promise<boolean>;
  // How much was read of the file, from 0 to 1.
  onProgress: (part: number) => void;
}

// Ends the reading for a reason.
class Ended extends Error {
  ending: Ending;

  constructor(ending: Ending) {
    super(ending);
    this.ending = ending;
  }
}

// Which lists have conversations: of ChatGPT and Open WebUI the file itself, of this page and Chat AI `conversations`,
// of Chat AI's copy of all its data `conversations` within that.
const LISTS = ["", "conversations", "conversations.conversations"];

export async function read(file: Blob, reader: Reader): Promise<Result> {
  const reading = new Reading(reader);
  try {
    await reading.all(file);
    reading.result.ending = "complete";
  } catch (error) {
    reading.failed(error);
  }
  return reading.result;
}

class Reading {
  readonly result: Result = { ending: "complete", at: 0, unknown: 0, large: 0, rest: {} };
  readonly #reader: Reader;
  #json = this.#newJson();
  #decoder = new TextDecoder();
  #elements: unknown[] = [];
  // Messages that stand in a list by themselves: together they are one conversation.
  #bare: unknown[] = [];
  #turn = performance.now();

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  #newJson(): JsonReader {
    return new JsonReader({
      streams: (path) => LISTS.includes(path.join(".")),
      onElement: (value) => this.#elements.push(value),
      most: MOST,
    });
  }

  async all(file: Blob): Promise<void> {
    const start = await bytesOf(file.slice(0, 4));
    if (isZip(start)) return this.#archive(file, await import("./zip.ts"));
    for (let at = 0; at < file.size; at += CHUNK) {
      await this.#take(await bytesOf(file.slice(at, at + CHUNK)), false);
      this.#reader.onProgress(Math.min(1, (at + CHUNK) / file.size));
    }
    await this.#take(new Uint8Array(0), true);
  }

  async #archive(file: Blob, { Unpacker }: typeof import("./zip.ts")): Promise<void> {
    let pieces: { bytes: Uint8Array; last: boolean }[] = [];
    const unpacker = new Unpacker({
      onPiece: (bytes, last) => pieces.push({ bytes, last }),
    });
    const takePieces = async () => {
      const taken = pieces;
      pieces = [];
      for (const { bytes, last } of taken) await this.#take(bytes, last);
    };
    for (let at = 0; at < file.size; at += CHUNK) {
      for (const piece of Unpacker.pieces(await bytesOf(file.slice(at, at + CHUNK)))) {
        unpacker.push(piece);
        await takePieces();
      }
      this.#reader.onProgress(Math.min(1, (at + CHUNK) / file.size));
      await this.#pause();
    }
    unpacker.end();
    await takePieces();
  }

  // Takes a piece of a file; after the last another file may begin.
  async #take(bytes: Uint8Array, last: boolean): Promise<void> {
    for (let at = 0; at < bytes.length || (last && at === 0); at += CHUNK) {
      const piece = bytes.subarray(at, at + CHUNK);
      await this.#feed(() => this.#json.feed(this.#decoder.decode(piece, { stream: true })));
    }
    if (!last) return;
    await this.#feed(() => this.#json.feed(this.#decoder.decode()));
    const rest = await this.#feed(() => this.#json.end());
    await this.#whole(rest);
    this.#json = this.#newJson();
    this.#decoder = new TextDecoder();
  }

  // What is complete before a fault is handed over all the same.
  async #feed<Value>(step: () => Value): Promise<Value> {
    try {
      return step();
    } finally {
      await this.#hand();
    }
  }

  // Hands over what has become complete.
  async #hand(): Promise<void> {
    const { version, format } = fields(this.#json.rest());
    if (format === FORMAT && typeof version === "number" && version > VERSION) throw new Ended("newer");
    const elements = this.#elements;
    this.#elements = [];
    for (const element of elements) await this.#one(element);
    await this.#pause();
  }

  async #pause(): Promise<void> {
    if (this.#reader.signal.aborted) throw new Ended("cancelled");
    if (performance.now() - this.#turn < TURN) return;
    await new Promise((resolve) => setTimeout(resolve));
    this.#turn = performance.now();
  }

  async #one(element: unknown): Promise<void> {
    if (element === TOO_LARGE) {
      this.result.large += 1;
      return;
    }
    const row = fields(element);
    if (typeof row.role === "string" && "content" in row) {
      this.#bare.push(row);
      return;
    }
    const found = understood(row);
    if (found) await this.#give(found);
    else this.result.unknown += 1;
  }

  // What is left when all lists were handed over: one conversation by itself, or what stands beside the conversations.
  async #whole(rest: unknown): Promise<void> {
    if (this.#bare.length) await this.#one({ messages: this.#bare.splice(0) });
    else if (rest === TOO_LARGE) this.result.large += 1;
    else if (!Array.isArray(rest)) await this.#beside(fields(rest));
  }

  async #beside(row: Fields): Promise<void> {
    if (row.format === FORMAT) {
      this.result.rest = row;
      return;
    }
    const found = understood(row);
    if (found) await this.#give(found);
    else if (!("conversations" in row)) this.result.unknown += 1;
  }

  async #give(found: Found): Promise<void> {
    if (!(await this.#reader.onFound(found))) throw new Ended("stopped");
    await this.#pause();
  }

  failed(error: unknown): void {
    const { result } = this;
    if (error instanceof Ended) {
      result.ending = error.ending;
    } else if (error instanceof BadJson) {
      result.ending = error.fault;
      result.at = error.at;
    } else if (error instanceof Error && "fault" in error) {
      result.ending = `zip-${error.fault}` as Ending;
    } else if (error instanceof DOMException) {
      result.ending = "unreadable";
    } else {
      throw error;
    }
  }
}

function isZip(start: Uint8Array): boolean {
  return start[0] === 0x50 && start[1] === 0x4b && (start[2] === 3 || start[2] === 5);
}

function understood(row: Fields): Found | null {
  if (isChatGpt(row)) return fromChatGpt(row);
  if (isOpenWebUi(row)) return fromOpenWebUi(row);
  if (isOwn(row)) return fromOwn(row);
  return isChatAi(row) ? fromChatAi(row) : null;
}

async function bytesOf(blob: Blob): Promise<Uint8Array> {
  return new Uint8Array(await blob.arrayBuffer());
}
