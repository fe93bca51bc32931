"""No word of a conversation, of an attachment or of a setting is on the host that serves the page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.browser import canaries
from tests.browser.loopback import Site
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab
from tests.system.canary import Words, forms_of

pytestmark = ON_STUB


def holding(folder: Path, words: Iterable[str]) -> list[str]:
    """Return the files below `folder` that have one of these words, in any form."""
    forms = {form for word in words for form in forms_of(word)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]


def test_no_word_is_left_with_web_and_what_it_writes(alice: Tab, stub: Site, tmp_path: Path) -> None:
    words = Words()
    canaries.leave(alice, words.new)
    alice.sign_out()
    assert len(words) > 8
    assert holding(stub.folder, words) == []
    (tmp_path / "web.log").write_text(f"a line with {words[-1]}")
    assert holding(tmp_path, words) == ["web.log"]
