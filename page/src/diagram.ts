// The script of the frame in which diagrams are drawn (markdown/drawing.ts). Nothing here may be trusted by the page.
// @mermaid-js/tiny, which the document loads first.
declare const mermaid: {
  initialize: (settings: object) => void;
  render: (id: string, text: string) => Promise<{ svg: string }>;
};

interface Question {
  text: string;
  dark: boolean;
}

// Diagrams are pictures: labels are text, not HTML, and their text changes none of this.
const SETTINGS = {
  startOnLoad: false,
  securityLevel: "strict",
  htmlLabels: false,
  flowchart: { htmlLabels: false },
  suppressErrorRendering: true,
  maxTextSize: 10_000,
  maxEdges: 300,
  fontFamily: "sans-serif",
} as const;
const LOCKED = [...Object.keys(SETTINGS), "secure", "theme", "themeCSS", "dompurifyConfig"];

// The document's header lets it load nothing. So nothing is asked for either: a diagram with a picture has a fault.
Object.defineProperty(HTMLImageElement.prototype, "src", { set() {} });

let count = 0;

async function drawn({ text, dark }: Question) {
  mermaid.initialize({ ...SETTINGS, theme: dark ? "dark" : "default", secure: LOCKED });
  count += 1;
  const { svg } = await mermaid.render(`diagram-${count}`, text);
  const picture = new DOMParser().parseFromString(svg, "text/html").querySelector("svg");
  if (!picture) throw new Error("nothing was drawn");
  const [, , width = 0, height = 0] = (picture.getAttribute("viewBox") ?? "").split(/[\s,]+/).map(Number);
  picture.setAttribute("width", String(width));
  picture.setAttribute("height", String(height));
  const title = picture.querySelector("title")?.textContent ?? "";
  return { svg: new XMLSerializer().serializeToString(picture), width, height, title };
}

addEventListener(
  "message",
  (event) => {
    const port = event.ports[0];
    if (!port) return;
    port.onmessage = async (asked: MessageEvent<Question>) => {
      try {
        port.postMessage(await drawn(asked.data));
      } catch {
        port.postMessage({});
      }
      document.body.replaceChildren();
    };
    port.postMessage({});
  },
  { once: true },
);
