"""What a test does with attachments: choose, drop and paste files, and see what was stored and sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import FileChooser, FilePayload, Locator, Request

from tests.browser.stored import rows
from tests.browser.tab import Tab

_TRANSFER = """
  const data = new DataTransfer();
  for (const [name, content] of Object.entries(arguments_[0])) {
    const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
    data.items.add(new File([bytes], name));
  }
"""
_DROP = (
    _TRANSFER
    + """
  for (const kind of ["dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector("#composer").dispatchEvent(event);
  }
"""
)
_PASTE = (
    _TRANSFER
    + """
  const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
  document.querySelector("#input").dispatchEvent(event);
"""
)


def choose(tab: Tab, files: Mapping[str, bytes]) -> None:
    """Choose files by the button."""
    given: list[FilePayload] = [
        {"name": name, "mimeType": "", "buffer": content} for name, content in files.items()
    ]
    _chooser(tab).set_files(given)


def choose_at(tab: Tab, path: Path) -> None:
    """Choose a file that lies on the disk: Playwright takes no other of more than 50 MB."""
    _chooser(tab).set_files([path])


def _chooser(tab: Tab) -> FileChooser:
    with tab.page.expect_file_chooser() as chooser:
        tab.find("#attach").click()
    return chooser.value


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def drop(tab: Tab, files: Mapping[str, bytes]) -> None:
    """Drop files on the composer."""
    tab.run(_DROP, _encoded(files))


def paste(tab: Tab, files: Mapping[str, bytes]) -> None:
    """Paste files where one types."""
    tab.run(_PASTE, _encoded(files))


def chip(tab: Tab, name: str) -> Locator:
    """Return the file above the composer that has this name."""
    return tab.page.locator("#tray .chip", has_text=name)


def ready(tab: Tab, count: int, state: str = "ready") -> None:
    """Wait until so many files above the composer are in this state."""
    tab.wait(lambda: tab.count(f'#tray .chip[data-state="{state}"]') == count)


def stored(tab: Tab) -> list[dict[str, Any]]:
    """Return the attachments that are stored, with the size of their bytes in place of these."""
    return rows(tab, "attachments")


def drafts(tab: Tab) -> list[dict[str, Any]]:
    """Return the drafts that are stored."""
    return rows(tab, "drafts")


def questions(tab: Tab) -> list[dict[str, Any]]:
    """Collect the bodies of what is asked from now on."""
    found: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if request.url.endswith("/v1/chat/completions") and request.post_data_buffer:
            found.append(json.loads(request.post_data_buffer))

    tab.page.on("request", note)
    return found


def with_senses(tab: Tab, *senses: str, context_length: int = 2_048) -> None:
    """Have the list of models be one that reads this beside text."""
    model = {"id": "smollm2-135m", "status": "ready", "context_length": context_length}
    found = {"object": "list", "data": [{**model, "capabilities": ["chat", *senses]}]}
    tab.page.route("**/v1/models", lambda route: route.fulfill(json=found))
    tab.reload()
    tab.wait_for_models()
