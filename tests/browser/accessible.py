"""What keeps people with a screen reader, a keyboard or weak eyes from using a page, as far as axe sees."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from playwright.sync_api import ViewportSize

from page.node import HERE, alone, install
from tests.browser.tab import DESKTOP, PHONE, Tab

# WCAG 2.2, levels A and AA, and what axe's authors hold to be good practice; their experiments too.
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice")
# An experiment that wants a landmark wherever a box that scrolls takes the keyboard. An answer has a box for
# each table, and landmarks that nobody can tell apart are what landmark-unique refuses.
LEFT_OUT = ("focus-order-semantics",)
# A window of 1280 by 1024 at 400 % (WCAG 2.2, 1.4.10).
ENLARGED: ViewportSize = {"width": 320, "height": 256}
# Each state is looked at four times.
LOOKS: tuple[tuple[ViewportSize, Literal["light", "dark"]], ...] = (
    (PHONE, "dark"),
    (PHONE, "light"),
    (DESKTOP, "dark"),
    (DESKTOP, "light"),
)

_OURS = Path(__file__).with_name("accessible.js").read_text(encoding="utf-8")
_REACH = Path(__file__).with_name("reach.js").read_text(encoding="utf-8")
# Frames are left out: the only one draws a diagram, holds nothing to read, and goes when it is drawn.
_AXE = """
  const [tags, kind, leftOut] = arguments_;
  const wanted = (rule) => !leftOut.includes(rule.ruleId) && (!kind || rule.tags.includes(kind));
  const rules = axe.getRules(tags).filter(wanted);
  const found = await axe.run(document, {
    runOnly: { type: "rule", values: rules.map((rule) => rule.ruleId) },
    resultTypes: ["violations"],
    iframes: false,
  });
  return found.violations.flatMap((rule) =>
    rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 160)} ${node.any.concat(node.all, node.none)
      .map((check) => check.message).join("; ")}`));
"""


@cache
def _axe() -> str:
    """Return axe-core's script, which the checks of the page install."""
    with alone():
        install(checks=True)
    return (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def faults(tab: Tab) -> list[str]:
    """Return what is wrong with what is shown, on a telephone and in a window, in dark and in light."""
    # The browser's own protocol evaluates the script, so the page keeps its policy.
    if not tab.page.evaluate("'axe' in window"):
        tab.page.evaluate(_axe())
    found = []
    try:
        for size, colours in LOOKS:
            _resize(tab, size)
            found += [f"{size['width']} px, {colours}: {fault}" for fault in _look(tab, colours)]
        _resize(tab, ENLARGED)
        found += [f"400 %: {fault}" for fault in tab.run(_REACH)]
    finally:
        tab.page.set_viewport_size(DESKTOP)
        tab.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    return found


def _resize(tab: Tab, size: ViewportSize) -> None:
    """Change the window, and wait until the page has heard of it: what it places anew, it does then."""
    tab.page.set_viewport_size(size)
    tab.run("for (const _ of [1, 2]) await new Promise(requestAnimationFrame)")


def _look(tab: Tab, colours: Literal["light", "dark"]) -> list[str]:
    # Without motion: a colour on its way to another would be measured halfway.
    tab.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    # The style sheets change nothing but colours from light to dark.
    kind = "cat.color" if colours == "dark" else ""
    found: list[str] = [*tab.run(_AXE, TAGS, kind, LEFT_OUT), *tab.run(_OURS)]
    return found
