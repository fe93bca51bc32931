// Parts of the page that are loaded when something first needs them.
import { type ReadonlySignal, signal } from "@preact/signals";

// After a failure it is tried again at the next need, but not sooner than this, in milliseconds.
const AGAIN_AFTER = 5_000;

export interface Lazy<Part> {
  // Null until it is there.
  part: ReadonlySignal<Part | null>;
  want: () => void;
}

export function lazily<Part>(load: () => Promise<Part>): Lazy<Part> {
  const part = signal<Part | null>(null);
  let loading = false;
  const want = async () => {
    if (loading || part.value) return;
    loading = true;
    try {
      part.value = await load();
    } catch {
      // What needs it shows its source meanwhile.
      setTimeout(() => {
        loading = false;
      }, AGAIN_AFTER);
    }
  };
  return { part, want };
}

// The address of a built file: all lie in one folder.
export function beside(name: string): string {
  return new URL(name, import.meta.url).href;
}

// Links a style sheet that lies beside the scripts. Resolves when it is there, or when it does not come.
export function linkStyles(name: string): Promise<void> {
  return new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = beside(name);
    link.onload = link.onerror = () => resolve();
    document.head.append(link);
  });
}
