// An answer in words: formulas as their source, without buttons. For the clipboard and for what is read out.
export const FORMULA = "formula";

export function source(tex: string, display: boolean): string {
  return display ? `$$${tex}$$` : `$${tex}$`;
}

function inWords(from: ParentNode): void {
  for (const one of from.querySelectorAll<HTMLElement>(`.${FORMULA}`)) {
    one.replaceWith(one.dataset.source ?? "");
  }
  for (const one of from.querySelectorAll("button, .code-bar")) one.remove();
}

// The text of an element.
export function words(of: Element): string {
  if (!of.querySelector(`.${FORMULA}, button`)) return of.textContent ?? "";
  const copy = of.cloneNode(true) as Element;
  inWords(copy);
  return copy.textContent ?? "";
}

function around(node: Node): Element | null {
  const element = node instanceof Element ? node : node.parentElement;
  return element?.closest(`.${FORMULA}`) ?? null;
}

// Whoever copies text with formulas in it gets their source, and formulas whole.
export function wholeFormulas(event: ClipboardEvent): void {
  const selection = getSelection();
  if (!selection?.rangeCount || selection.isCollapsed || !event.clipboardData) return;
  const range = selection.getRangeAt(0).cloneRange();
  const [first, last] = [around(range.startContainer), around(range.endContainer)];
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const place = document.createElement("div");
  place.append(range.cloneContents());
  if (!place.querySelector(`.${FORMULA}`)) return;
  inWords(place);
  // Only what is laid out has ends of lines.
  place.className = "aside";
  document.body.append(place);
  // biome-ignore lint/performance/useDomNodeTextContent: its ends of lines are wanted
  event.clipboardData.setData("text/plain", place.innerText);
  place.remove();
  event.preventDefault();
}
