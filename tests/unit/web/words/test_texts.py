"""Every text that a page or script uses exists, and every text is used."""

from __future__ import annotations

import re
from pathlib import Path

import sluice.web
from sluice.web.words.texts import Texts

WEB = Path(sluice.web.__file__).parent
PAGE = Path(__file__).parents[4] / "page" / "src"
# Keys that are composed at run time.
FAMILIES = (
    "error.",
    "validation.",
    "keys.field_",
    "keys.limit_",
    "js.status_",
    "js.short_",
    "js.theme_",
    "js.list_",
    "js.admin_",
)


def named() -> set[str]:
    """Return every key that is written out in code, templates and scripts."""
    found: set[str] = set()
    for path in [*WEB.rglob("*.html"), *WEB.rglob("*.py")]:
        found |= set(re.findall(r"""(?:\bt|texts\.get)\(\s*["']([\w.]+)["']""", path.read_text()))
    for path in [*PAGE.rglob("*.ts"), *PAGE.rglob("*.tsx")]:
        script = path.read_text()
        found |= {f"js.{key}" for key in re.findall(r'\bt\(\s*"(\w+)"', script)}
        # The compiler looks at texts that are named in another way; that it is one of ours is enough here.
        found |= {f"js.{key}" for key in re.findall(r'"(\w+)"', script)} & known()
    return found


def known() -> set[str]:
    texts = Texts.load("en")
    return set(texts._texts)


def test_no_text_is_missing() -> None:
    assert named() - known() == set()


def test_no_text_is_left_over() -> None:
    assert {key for key in known() - named() if not key.startswith(FAMILIES)} == set()
