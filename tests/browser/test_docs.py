"""The documentation as a site: it builds without a fault, draws its pictures, and asks no other host."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from docs.site.build import outside, with_lists

ROOT = Path(__file__).parents[2]
PICTURE = re.compile(r"^```mermaid\n(.*?)^```", re.MULTILINE | re.DOTALL)
BUILD_SECONDS = 300
PATIENCE = 60
DRAWN = """(wanted) =>
  [...document.querySelectorAll('div.mermaid')].filter((one) => one.clientHeight > 40).length === wanted"""
PARSE = "(text) => mermaid.parse(text).then(() => '', String)"
ASKED = "performance.getEntriesByType('resource').map((one) => one.name)"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The site's address, after a build."""
    built = subprocess.run(
        [sys.executable, "-m", "docs.site.build"],
        cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    handler = partial(Quiet, directory=str(ROOT / "build" / "docs" / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def reader(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def pictures() -> dict[str, list[str]]:
    """Return the pictures' text by page."""
    found = {
        str(path.relative_to(ROOT)): PICTURE.findall(path.read_text(encoding="utf-8"))
        for path in (ROOT / "docs").rglob("*.md")
    }
    return {page: texts for page, texts in found.items() if texts}


@pytest.mark.parametrize("page", sorted(pictures()))
def test_pictures_are_drawn_with_what_the_site_brings(page: str, site: str, reader: Page) -> None:
    """A page without Mermaid, or with a text that it does not take, would show the text."""
    reader.goto(f"{site}/{page.removesuffix('.md')}/")
    wanted = len(pictures()[page])
    reader.wait_for_function(DRAWN, arg=wanted, timeout=PATIENCE * 1000)
    for text in pictures()[page]:
        assert reader.evaluate(PARSE, text) == ""
    asked = reader.evaluate(ASKED)
    assert [address for address in asked if not address.startswith(f"{site}/")] == []


def test_the_first_page_asks_no_other_host_and_needs_no_mermaid(site: str, reader: Page) -> None:
    reader.goto(f"{site}/")
    asked = reader.evaluate(ASKED)
    assert asked
    assert [address for address in asked if not address.startswith(f"{site}/")] == []
    assert not any("mermaid" in address for address in asked)


def test_what_a_page_would_load_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    """A link that a reader may follow is no fault."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "fine.html").write_text('<script src="a.js"></script><a href="https://example.org/">x</a>')
    assert outside(tmp_path) == []
    (tmp_path / "script.html").write_text('<script async src="https://example.org/a.js"></script>')
    (tmp_path / "sheet.html").write_text("<link rel=stylesheet href=//example.org/a.css>")
    (tmp_path / "assets" / "a.css").write_text("@font-face { src: url('https://example.org/a.woff2') }")
    assert [page for page, _ in outside(tmp_path)] == ["script.html", "sheet.html", "assets/a.css"]


def test_lists_behind_a_paragraph_are_lists() -> None:
    """In a block of code the same lines are left as they are."""
    assert with_lists("it is\n- one;\n- two.\n") == "it is\n\n- one;\n- two.\n"
    assert with_lists("- one\n  goes on\n- two\n") == "- one\n  goes on\n- two\n"
    assert with_lists("```\nkey:\n- one\n```\n") == "```\nkey:\n- one\n```\n"
