// Elements are made here, from text alone: nothing on these pages is ever parsed as HTML.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function glyph(name) {
  return element("span", { className: `glyph glyph-${name}`, ariaHidden: "true" });
}

export function iconButton(name, label, action) {
  return element("button", { type: "button", className: "icon-button small", title: label, ariaLabel: label, onclick: action }, glyph(name));
}
