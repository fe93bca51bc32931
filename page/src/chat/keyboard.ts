// A keyboard on the screen takes a part of the window. Some browsers make the window smaller, others lay the keyboard
// over it: there the page itself becomes as high as what is seen.
const SLACK = 1;

export function keepAboveKeyboard(): void {
  const view = window.visualViewport;
  if (!view) return;
  const { style } = document.documentElement;
  const fit = () => {
    // A reader who has zoomed in sees a part of the page by choice.
    const covered = view.scale === 1 && view.height < window.innerHeight - SLACK;
    if (covered) style.setProperty("--visible", `${Math.round(view.height)}px`);
    else style.removeProperty("--visible");
    if (covered) window.scrollTo(0, 0);
  };
  view.addEventListener("resize", fit);
}
