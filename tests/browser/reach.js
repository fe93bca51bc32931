// The body of a function that returns what cannot be brought into a small window and pressed there: see accessible.py.
const shown = (one) => one.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const selector = "a[href], button, summary, input:not([type=hidden]), select, textarea, [role=option]";
// What is open above the page takes all keys and presses.
const above = [...document.querySelectorAll("#side.open, [role=listbox]:not([hidden]), dialog[open], :popover-open")].filter(shown).at(-1);
const faults = [];
// What is scrolled here is put back: the next state is looked at as people come to it.
const scrolled = [...document.querySelectorAll("*")].map((one) => [one, one.scrollTop, one.scrollLeft]);
if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
const within = [...(above ?? document).querySelectorAll(selector)];
for (const one of within.filter((one) => shown(one) && !one.disabled && !one.matches(".skip"))) {
  one.scrollIntoViewIfNeeded();
  // Of words over several lines, the first.
  const box = one.getClientRects()[0];
  const [x, y] = [(Math.max(box.left, 0) + Math.min(box.right, innerWidth)) / 2, box.top + Math.min(box.height, innerHeight) / 2];
  const hit = document.elementFromPoint(x, y);
  const label = hit?.closest("label");
  if (!hit || !(one.contains(hit) || hit.contains(one) || label?.control === one))
    faults.push(`out of reach: ${one.outerHTML.slice(0, 120)} (${hit?.outerHTML.slice(0, 80)} at ${x}, ${y})`);
}
for (const [one, top, left] of scrolled) Object.assign(one, { scrollTop: top, scrollLeft: left });
return faults;
