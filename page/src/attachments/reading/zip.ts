// Files out of a packed one. What it says of its sizes is not believed: what comes out is counted, and one that would
// fill the memory is given up. Archives in archives are not opened.
import { MOST_ENTRIES, MOST_INFLATED } from "../limits.ts";
import { Unreadable } from "./unreadable.ts";

const END = 0x06054b50;
const END_SIZE = 22;
const MOST_COMMENT = 0xffff;
const LISTED = 0x02014b50;
const LISTED_SIZE = 46;
const LOCAL = 0x04034b50;
const LOCAL_SIZE = 30;
// So much goes into the unpacking at once: at most a thousand times as much comes out of it.
const STEP = 16_384;
const STORED = 0;
const DEFLATED = 8;

interface Entry {
  secret: boolean;
  method: number;
  packed: number;
  at: number;
}

export class Zip {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #entries = new Map<string, Entry>();
  readonly #onBytes: (all: number) => void;
  #inflated = 0;

  // Raises Unreadable. `onBytes` is told how many bytes have come out so far.
  constructor(bytes: Uint8Array<ArrayBuffer>, onBytes: (all: number) => void = () => {}) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#onBytes = onBytes;
    try {
      this.#list();
    } catch (error) {
      throw error instanceof RangeError ? new Unreadable("broken") : error;
    }
  }

  #list(): void {
    const end = this.#findEnd();
    const count = this.#view.getUint16(end + 10, true);
    if (count > MOST_ENTRIES) throw new Unreadable("bomb");
    let at = this.#view.getUint32(end + 16, true);
    const decoder = new TextDecoder();
    for (let entry = 0; entry < count; entry += 1) {
      if (this.#view.getUint32(at, true) !== LISTED) throw new Unreadable("broken");
      const length = this.#view.getUint16(at + 28, true);
      const name = decoder.decode(this.#bytes.subarray(at + LISTED_SIZE, at + LISTED_SIZE + length));
      this.#entries.set(name, {
        secret: Boolean(this.#view.getUint16(at + 8, true) & 1),
        method: this.#view.getUint16(at + 10, true),
        packed: this.#view.getUint32(at + 20, true),
        at: this.#view.getUint32(at + 42, true),
      });
      const more = this.#view.getUint16(at + 30, true) + this.#view.getUint16(at + 32, true);
      at += LISTED_SIZE + length + more;
    }
  }

  #findEnd(): number {
    const last = this.#bytes.length - END_SIZE;
    for (let at = last; at >= Math.max(0, last - MOST_COMMENT); at -= 1) {
      if (this.#view.getUint32(at, true) === END) return at;
    }
    throw new Unreadable("broken");
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  // The content of one file, piece by piece. Raises Unreadable.
  async *stream(name: string): AsyncGenerator<Uint8Array> {
    const entry = this.#entries.get(name);
    if (!entry) throw new Unreadable("broken");
    if (entry.secret) throw new Unreadable("password");
    const packed = this.#packed(entry);
    for await (const piece of entry.method === STORED ? steps(packed) : inflated(packed, entry.method)) {
      this.#inflated += piece.length;
      if (this.#inflated > MOST_INFLATED) throw new Unreadable("bomb");
      this.#onBytes(this.#inflated);
      yield piece;
    }
  }

  #packed({ at, packed }: Entry): Uint8Array<ArrayBuffer> {
    if (at + LOCAL_SIZE > this.#bytes.length || this.#view.getUint32(at, true) !== LOCAL) {
      throw new Unreadable("broken");
    }
    const from = at + LOCAL_SIZE + this.#view.getUint16(at + 26, true) + this.#view.getUint16(at + 28, true);
    if (from + packed > this.#bytes.length) throw new Unreadable("broken");
    return this.#bytes.subarray(from, from + packed);
  }
}

function* steps(bytes: Uint8Array<ArrayBuffer>): Generator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < bytes.length; at += STEP) yield bytes.subarray(at, at + STEP);
}

async function* inflated(packed: Uint8Array<ArrayBuffer>, method: number): AsyncGenerator<Uint8Array> {
  if (method !== DEFLATED) throw new Unreadable("broken");
  const { readable, writable } = new DecompressionStream("deflate-raw");
  feed(packed, writable);
  const reader = readable.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    throw error instanceof TypeError ? new Unreadable("broken") : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What fails here fails for the reader too; and who stops reading stops this.
async function feed(packed: Uint8Array<ArrayBuffer>, writable: WritableStream<BufferSource>): Promise<void> {
  const writer = writable.getWriter();
  try {
    for (const step of steps(packed)) await writer.write(step);
    await writer.close();
  } catch {
    // The other end says why.
  }
}
