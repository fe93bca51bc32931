"""Markdown of a site's administrators as HTML. Raw HTML in it stays text, and links lead to pages alone."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_LEVELS = 6
# Images would come from elsewhere, which the pages' rules forbid.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def html(text: str) -> Markup:
    """Return a text's HTML, with headings one level lower: the page has the first heading itself."""
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, _LEVELS)}"
        for inner in token.children or ():
            _close_link(inner)
    # The parser escapes what is text, and refuses links to scripts and files.
    return Markup(_PARSER.renderer.render(tokens, _PARSER.options, {}))  # noqa: S704


def _close_link(token: Token) -> None:
    if token.type == "link_open":
        token.attrSet("rel", "noopener noreferrer")
