"""What keeps a person with a screen reader, a keyboard or weak eyes from using a page, as far as it shows."""

from __future__ import annotations

from pathlib import Path

from tests.browser.browser import Browser

_SCRIPT = Path(__file__).with_name("accessible.js").read_text(encoding="utf-8")


def faults(browser: Browser) -> list[str]:
    """Return what is wrong with the page that is open: in dark on a telephone, in light in the window."""
    command = browser.driver.execute_cdp_cmd
    telephone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    try:
        command("Emulation.setDeviceMetricsOverride", telephone)
        found = [f"dark, narrow: {fault}" for fault in _look(browser, "dark")]
        command("Emulation.clearDeviceMetricsOverride", {})
        return found + [f"light, wide: {fault}" for fault in _look(browser, "light")]
    finally:
        command("Emulation.clearDeviceMetricsOverride", {})
        command("Emulation.setEmulatedMedia", {"features": []})


def _look(browser: Browser, colours: str) -> list[str]:
    # Without motion: a colour on its way to another would be measured halfway.
    wanted = {"prefers-color-scheme": colours, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    found: list[str] = browser.run(_SCRIPT)
    return found
