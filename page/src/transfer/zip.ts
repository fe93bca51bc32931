// What ChatGPT gives: an archive with conversations.json in it. It is taken apart as it is read, in small pieces, and
// nothing is taken out of it but the conversations: however much it pretends to hold, memory stays bounded.
import { Unzip, UnzipInflate } from "fflate";

// A conversation is so many bytes at most when it is unpacked, all files of the archive together.
const MOST_BYTES = 2 ** 30;
const MOST_FILES = 100_000;
// How many bytes are unpacked at a time: at most a thousand times as many come out.
const PIECE = 4_096;

const WANTED = /(?:^|\/)conversations(?:[-_]?\d+)?\.json$/;

export class BadZip extends Error {
  // bomb: more than anybody has written. empty: no conversations in it. broken: no archive.
  fault: "bomb" | "empty" | "broken";

  constructor(fault: BadZip["fault"]) {
    super(fault);
    this.fault = fault;
  }
}

// Of what is not wanted nothing is unpacked, and nothing kept: the library keeps whole a file that is not begun.
class Inflate extends UnzipInflate {
  readonly #wanted: boolean;

  constructor(name: string) {
    super();
    this.#wanted = WANTED.test(name);
  }

  override push(piece: Uint8Array, last: boolean): void {
    if (this.#wanted) super.push(piece, last);
  }
}

export interface Unpacking {
  // A piece of a file of conversations; `last` for its end.
  onPiece: (bytes: Uint8Array, last: boolean) => void;
}

// Takes an archive apart. Raises BadZip, at once or at the end.
export class Unpacker {
  readonly #unzip: Unzip;
  #files = 0;
  #found = 0;
  #bytes = 0;
  #failed: unknown = null;

  constructor({ onPiece }: Unpacking) {
    this.#unzip = new Unzip((file) => {
      this.#files += 1;
      if (this.#files > MOST_FILES) throw new BadZip("bomb");
      if (!WANTED.test(file.name)) {
        file.ondata = () => {};
        // Of other methods there is no decoder to begin.
        if (file.compression === 0 || file.compression === 8) file.start();
        return;
      }
      this.#found += 1;
      file.ondata = (error, piece, last) => {
        if (error) this.#failed ??= error;
        this.#bytes += piece?.length ?? 0;
        if (this.#bytes > MOST_BYTES) throw new BadZip("bomb");
        if (piece) onPiece(piece, last);
      };
      file.start();
    });
    this.#unzip.register(Inflate);
  }

  // The pieces of `bytes`, each to be pushed by itself.
  static *pieces(bytes: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
  }

  push(piece: Uint8Array): void {
    try {
      this.#unzip.push(piece, false);
    } catch (error) {
      throw this.#named(error);
    }
    if (this.#failed) throw this.#named(this.#failed);
  }

  end(): void {
    try {
      this.#unzip.push(new Uint8Array(0), true);
    } catch (error) {
      throw this.#named(error);
    }
    if (this.#failed) throw this.#named(this.#failed);
    if (!this.#found) throw new BadZip("empty");
  }

  // What comes from the callbacks above goes through; what the library says means a broken archive.
  #named(error: unknown): unknown {
    const { code } = error as { code?: unknown };
    return typeof code === "number" ? new BadZip("broken") : error;
  }
}
