// Draws diagrams in a frame without any rights: its document has an origin of its own, may run the site's one script,
// and may load and send nothing. What comes back is a picture's text, which is shown as an image: there no script runs.
import type { TextKey } from "../texts.ts";

export type Fault = Extract<TextKey, "diagram_fault" | "diagram_slow" | "diagram_long">;

export interface Picture {
  svg: string;
  // In pixels.
  width: number;
  height: number;
  title: string;
}

export type Drawn = Picture | { fault: Fault };

export const LONGEST = 10_000;
const LONGEST_PICTURE = 4_000_000;
const LARGEST = 8_000;
// How long the frame's script may need to come, and one diagram to be drawn, in milliseconds.
const LOADING = 30_000;
const DRAWING = 8_000;

// One after the other: a frame draws one at a time.
let last: Promise<unknown> = Promise.resolve();
let frame: Frame | null = null;

export function draw(text: string, dark: boolean): Promise<Drawn> {
  if (text.length > LONGEST) return Promise.resolve({ fault: "diagram_long" });
  const drawn = last.then(() => next(text, dark));
  last = drawn.catch(() => {});
  return drawn;
}

async function next(text: string, dark: boolean): Promise<Drawn> {
  frame ??= new Frame();
  const answer = await frame.ask({ text, dark });
  if (answer) return pictureOf(answer) ?? { fault: "diagram_fault" };
  // It hangs, or never came. The next diagram gets a new one.
  frame.end();
  frame = null;
  return { fault: "diagram_slow" };
}

// What comes out of the frame is not to be trusted.
function pictureOf(answer: unknown): Picture | null {
  const { svg, width, height, title } = answer as Record<keyof Picture, unknown>;
  if (typeof svg !== "string" || svg.length > LONGEST_PICTURE) return null;
  const [wide, high] = [Number(width), Number(height)];
  if (!(wide > 0 && wide < LARGEST && high > 0 && high < LARGEST)) return null;
  return { svg, width: wide, height: high, title: typeof title === "string" ? title.slice(0, 200) : "" };
}

class Frame {
  readonly #element = document.createElement("iframe");
  readonly #port: Promise<MessagePort | null>;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#element.sandbox.add("allow-scripts");
    this.#element.className = "drawing";
    this.#element.tabIndex = -1;
    this.#element.ariaHidden = "true";
    this.#element.src = document.getElementById("app")?.dataset.drawing ?? "";
    this.#port = answered(port1, LOADING).then((ready) => (ready ? port1 : null));
    // Its origin is none that could be named.
    this.#element.addEventListener("load", () =>
      this.#element.contentWindow?.postMessage(null, "*", [port2]),
    );
    document.body.append(this.#element);
  }

  // Resolves with what it says; null when it says nothing in time.
  async ask(question: { text: string; dark: boolean }): Promise<unknown> {
    const port = await this.#port;
    if (!port) return null;
    port.postMessage(question);
    return answered(port, DRAWING);
  }

  end(): void {
    this.#element.remove();
  }
}

function answered(port: MessagePort, within: number): Promise<unknown> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), within);
    port.onmessage = (event) => {
      clearTimeout(timer);
      resolve(event.data ?? null);
    };
  });
}
