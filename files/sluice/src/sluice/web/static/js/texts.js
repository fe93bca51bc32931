// The words of the page, in the language that the server chose.
const texts = JSON.parse(document.getElementById("texts").textContent);

export function t(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_whole, name) => String(values[name]));
}
