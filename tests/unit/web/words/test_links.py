"""Links in announcements: named or bare, to https alone; nothing of the text is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from sluice.web.words.links import TextPiece, pieces
from tests.trials import examples

PARTS = strategies.sampled_from(
    ["[", "]", "(", ")", "https://", "http://", "a.example", "javascript:", " ", "x", "<", '"', ".", "。"]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [TextPiece("plain", "")]),
        (
            "Read [the news](https://example.org/n?a=1&b=2#c), please.",
            [
                TextPiece("Read ", ""),
                TextPiece("the news", "https://example.org/n?a=1&b=2#c"),
                TextPiece(", please.", ""),
            ],
        ),
        (
            "See https://example.org/a.",
            [
                TextPiece("See ", ""),
                TextPiece("https://example.org/a", "https://example.org/a"),
                TextPiece(".", ""),
            ],
        ),
        ("[https://a.example](https://b.example)", [TextPiece("https://a.example", "https://b.example")]),
    ],
)
def test_links_are_found(text: str, expected: list[TextPiece]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))",
        "[x](http://example.org/)",
        "[x](data:text/html,x)",
        "[x](/keys)",
        "[x](https://)",
        "https://",
        "https://[::1",
        "[x](https://[::1)",
        'https:"//x',
    ],
)
def test_what_is_no_https_address_stays_text(text: str) -> None:
    assert [piece.link for piece in pieces(text)] == [""]
    assert "".join(piece.text for piece in pieces(text)) == text


@examples(500)
@given(strategies.lists(PARTS, max_size=30).map("".join))
def test_whatever_is_written_links_are_https_and_bare_text_is_kept(text: str) -> None:
    found = pieces(text)
    assert all(piece.link == "" or piece.link.startswith("https://") for piece in found)
    if "](" not in text:
        assert "".join(piece.text for piece in found) == text
