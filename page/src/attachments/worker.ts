// The worker in which a file is read: one for each file, ended by the page when it is done, or has to be.
import { type Progress, type Reading, read } from "./reading/read.ts";
import { type Reason, Unreadable } from "./reading/unreadable.ts";

export interface Order {
  file: Blob;
  side: number;
}

export type Said = { progress: Progress } | { read: Reading } | { failed: Reason };

// The types of a worker's own scope are not among those of a page.
const scope = self as unknown as {
  onmessage: ((event: MessageEvent<Order>) => void) | null;
  postMessage: (said: Said, transfer?: Transferable[]) => void;
};

// How often progress is told, in milliseconds.
const EVERY = 200;
let told = 0;

function tell(progress: Progress): void {
  if (performance.now() - told < EVERY) return;
  told = performance.now();
  scope.postMessage({ progress });
}

scope.onmessage = async ({ data: { file, side } }) => {
  try {
    const made = await read(file, side, tell);
    scope.postMessage({ read: made }, made.kind === "text" ? [] : [made.bytes]);
  } catch (error) {
    // Whatever else a reader stumbles over is the file's fault: it is not what it says.
    scope.postMessage({ failed: error instanceof Unreadable ? error.reason : "broken" });
  }
};
