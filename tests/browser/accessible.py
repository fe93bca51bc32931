"""What keeps a person with a screen reader, a keyboard or weak eyes from using a page, as far as it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.browser.tab import DESKTOP, PHONE, Tab

_SCRIPT = Path(__file__).with_name("accessible.js").read_text(encoding="utf-8")


def faults(tab: Tab) -> list[str]:
    """Return what is wrong with the page that is open: in dark on a telephone, in light in the window."""
    try:
        tab.page.set_viewport_size(PHONE)
        found = [f"dark, narrow: {fault}" for fault in _look(tab, "dark")]
        tab.page.set_viewport_size(DESKTOP)
        return found + [f"light, wide: {fault}" for fault in _look(tab, "light")]
    finally:
        tab.page.set_viewport_size(DESKTOP)
        tab.page.emulate_media(color_scheme="light", reduced_motion="no-preference")


def _look(tab: Tab, colours: Literal["light", "dark"]) -> list[str]:
    # Without motion: a colour on its way to another would be measured halfway.
    tab.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    found: list[str] = tab.run(_SCRIPT)
    return found
