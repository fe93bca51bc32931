// Has a file read in a worker of its own, and ends that one when it is done, when the reader asks for it, when it dies,
// and when it hangs.
import { LONGEST, SILENCE } from "./limits.ts";
import { startWorker } from "./policy.ts";
import type { Progress, Reading } from "./reading/read.ts";
import { Unreadable } from "./reading/unreadable.ts";
import type { Order, Said } from "./worker.ts";

export interface Reader {
  // Rejects with Unreadable, or with an AbortError after `stop`.
  reading: Promise<Reading>;
  stop: () => void;
}

function started(): Worker {
  try {
    return startWorker("reader");
  } catch {
    throw new Unreadable("died");
  }
}

// Raises Unreadable where the browser starts no worker.
export function readFile(file: Blob, side: number, onProgress: (progress: Progress) => void): Reader {
  const worker = started();
  let silent = 0;
  let longest = 0;
  let stop = () => {};
  const ended = new Promise<Reading>((resolve, reject) => {
    const hung = () => reject(new Unreadable("hung"));
    const died = () => reject(new Unreadable("died"));
    longest = window.setTimeout(hung, LONGEST);
    silent = window.setTimeout(hung, SILENCE);
    worker.onerror = died;
    worker.onmessageerror = died;
    worker.onmessage = ({ data }: MessageEvent<Said>) => {
      clearTimeout(silent);
      silent = window.setTimeout(hung, SILENCE);
      if ("progress" in data) onProgress(data.progress);
      else if ("read" in data) resolve(data.read);
      // pdf.js takes the worker for its own and greets the page too.
      else if ("failed" in data) reject(new Unreadable(data.failed));
    };
    stop = () => reject(new DOMException("stopped", "AbortError"));
  });
  const order: Order = { file, side };
  worker.postMessage(order);
  const reading = ended.finally(() => {
    clearTimeout(silent);
    clearTimeout(longest);
    worker.terminate();
  });
  return { reading, stop };
}
