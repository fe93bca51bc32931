"""Links in a line of text: `[words](https://…)`, or only the address. Everything else stays text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

_LINK = re.compile(
    r"\[(?P<words>[^\[\]]{1,200})\]\((?P<named>https://[^\s<>\"()]{1,500})\)"
    r"|(?P<bare>https://[^\s<>\"()\[\]]{1,500})"
)
# At the end of an address these belong to the sentence.
_AFTER = ".,;:!?'。、"


class TextPiece(NamedTuple):
    """A piece of a text; `link` is "" for text alone."""

    text: str
    link: str


def pieces(text: str) -> list[TextPiece]:
    """Return a text in pieces. Only https addresses with a host name are links."""
    return [piece for piece in _pieces(text) if piece.text]


def _pieces(text: str) -> Iterator[TextPiece]:
    done = 0
    for found in _LINK.finditer(text):
        link = found["named"] or found["bare"].rstrip(_AFTER)
        if not has_host(link):
            continue
        yield TextPiece(text[done : found.start()], "")
        yield TextPiece(found["words"] or link, link)
        done = found.end() if found["named"] else found.start() + len(link)
    yield TextPiece(text[done:], "")


def has_host(link: str) -> bool:
    """Tell whether an address names a host."""
    try:
        return bool(urlsplit(link).hostname)
    except ValueError:
        return False
