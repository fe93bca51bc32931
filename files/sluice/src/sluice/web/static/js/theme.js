// Light or dark: as the system has it, or as the person chose. Runs before the page is painted.
(() => {
  const KEY = "sluice-theme";
  const CHOICES = ["auto", "light", "dark"];
  const root = document.documentElement;

  function chosen() {
    const stored = localStorage.getItem(KEY);
    return CHOICES.includes(stored) ? stored : "auto";
  }

  function apply(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  }

  apply(chosen());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const texts = JSON.parse(document.getElementById("texts").textContent);
    const label = () => {
      button.title = texts[`theme_${chosen()}`];
      button.setAttribute("aria-label", button.title);
    };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      localStorage.setItem(KEY, CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length]);
      apply(chosen());
      label();
    });
  });
})();
