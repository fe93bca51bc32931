// The body of a function that returns what is wrong with the page and axe does not look for: see accessible.py.
const faults = [];
const shown = (one) => one.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
const brief = (one) => one.outerHTML.slice(0, 120);

const titles = all("h1").length;
if (titles !== 1) faults.push(`headings of level 1: ${titles}`);
for (const one of all("th")) if (!one.scope) faults.push(`a header of nothing: ${brief(one)}`);
for (const one of all("table")) if (!one.querySelector("th[scope]")) faults.push(`no headers: ${brief(one)}`);
// What moves sideways as a whole, a reader of large letters has to move for each line (WCAG 2.2, 1.4.10).
if (document.documentElement.scrollWidth > document.documentElement.clientWidth) faults.push("wider than the window");
return faults;
