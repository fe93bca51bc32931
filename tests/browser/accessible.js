// The body of a function that returns what is wrong with the page: see accessible.py.
const faults = [];
const shown = (one) => one.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
const brief = (one) => one.outerHTML.slice(0, 120);

const named = (one) => one.ariaLabel || one.title || one.labels?.length || one.textContent.trim();
for (const one of all("a, button, summary, input:not([type=hidden]), select, textarea"))
  if (!named(one)) faults.push(`no name: ${brief(one)}`);
for (const one of all("svg[role=img], nav, [role=region], section[aria-labelledby]")) {
  const by = one.getAttribute("aria-labelledby");
  if (!one.ariaLabel && !(by && document.getElementById(by)?.textContent.trim())) faults.push(`no name: ${brief(one)}`);
}
for (const one of all("img")) if (!one.hasAttribute("alt")) faults.push(`no alternative: ${brief(one)}`);

const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) faults.push(`id twice: ${id}`);
for (const one of all("[aria-describedby], [aria-labelledby]"))
  for (const id of `${one.getAttribute("aria-describedby") ?? ""} ${one.getAttribute("aria-labelledby") ?? ""}`.split(/\s+/))
    if (id && !ids.includes(id)) faults.push(`points nowhere: ${brief(one)}`);

const levels = all("h1, h2, h3, h4").map((one) => Number(one.localName[1]));
if (levels.filter((level) => level === 1).length !== 1) faults.push(`headings of level 1: ${levels}`);
levels.forEach((level, at) => at && level > levels[at - 1] + 1 && faults.push(`a heading is skipped: ${levels}`));
if (all("main").length !== 1) faults.push("not one main part");
for (const one of all("th")) if (!one.scope) faults.push(`a header of nothing: ${brief(one)}`);
for (const one of all("table")) if (!one.querySelector("th[scope=col]")) faults.push(`no headers: ${brief(one)}`);
if (document.documentElement.scrollWidth > document.documentElement.clientWidth) faults.push("wider than the window");

// WCAG 2.1, 1.4.3: 4.5 to 1, for large text 3 to 1. Colours as the browser computes them, of whatever notation, come to numbers on a canvas.
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const over = (below, colour) => {
  canvas.fillStyle = `rgb(${below.join()})`;
  canvas.fillRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const behind = (one) => (one ? over(behind(one.parentElement), getComputedStyle(one).backgroundColor) : [255, 255, 255]);
const light = (rgb) => {
  const [r, g, b] = rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const words = (one) => [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
for (const one of all("body *").filter((one) => words(one) && !one.closest("svg, script, .hidden"))) {
  const style = getComputedStyle(one);
  const back = behind(one);
  const [low, high] = [light(over(back, style.color)), light(back)].sort((a, b) => a - b);
  const size = Number.parseFloat(style.fontSize);
  const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < needed) faults.push(`contrast ${contrast.toFixed(2)}: ${brief(one)}`);
}
return [...new Set(faults)];
