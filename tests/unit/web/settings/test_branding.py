"""A site's own look: what is refused, with the remedy, and what its colours become."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, strategies

from sluice.web.settings import branding
from sluice.web.settings.branding import CONTRAST, GROUNDS, Branding, Colour, Rgb
from tests.trials import examples

BASE = Path(__file__).parents[4] / "page/src/styles/base.css"
COLOURS = strategies.builds(Rgb, *[strategies.integers(0, 255)] * 3)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'


def png(width: int = 64, height: int = 64) -> bytes:
    """Return a PNG file, one white pixel after the other."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * width) * min(height, 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def svg(inside: str, root: str = SVG) -> bytes:
    return f"{root}{inside}</svg>".encode()


def test_contrast_is_what_wcag_defines() -> None:
    black, white = Rgb(0, 0, 0), Rgb(255, 255, 255)
    assert branding.contrast(black, white) == pytest.approx(21)
    assert branding.contrast(white, white) == pytest.approx(1)
    assert branding.contrast(Rgb.read("#767676"), white) == pytest.approx(4.54, abs=0.01)


def test_the_grounds_are_those_of_the_style_sheet() -> None:
    css = BASE.read_text()
    for at, name in enumerate(("page", "raised", "sunken")):
        found = re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\);", css)
        assert found
        assert found.groups() == (GROUNDS["light"][at], GROUNDS["dark"][at])


def test_sluices_own_colours_would_be_accepted() -> None:
    found = re.search(r"--accent: light-dark\((#\w+), (#\w+)\);", BASE.read_text())
    assert found
    assert branding.problem(Branding(accent=Colour(*found.groups()))) == ""


@examples(300)
@given(COLOURS, strategies.sampled_from(["light", "dark"]))
def test_the_colour_that_is_named_instead_is_accepted(colour: Rgb, mode: str) -> None:
    nearest = branding.nearest(mode, colour)
    good = {"light": "#0f766e", "dark": "#2dd4bf", mode: str(nearest)}
    assert branding.problem(Branding(accent=Colour(**good))) == ""


@examples(300)
@given(COLOURS)
def test_words_on_any_colour_can_be_read_and_more_so_when_it_is_pointed_at(colour: Rgb) -> None:
    words = branding.on(colour)
    assert branding.contrast(words, colour) >= CONTRAST
    stronger = colour.mixed(branding.on(words), 0.2)
    assert branding.contrast(words, stronger) >= branding.contrast(words, colour) - 0.1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Branding(name=""), ["branding.name", "1 to 40"]),
        (Branding(name="x" * 41), ["branding.name"]),
        (Branding(name="a\nb"), ["branding.name", "one line"]),
        (Branding(accent=Colour("#6fb3ff", "#2dd4bf")), ["accent.light", "4.5:1", "nearest"]),
        (Branding(accent=Colour("#0f766e", "#0f766e")), ["accent.dark", "4.5:1", "nearest"]),
        (Branding(accent=Colour("teal", "#2dd4bf")), ["accent.light", "write it as #0f766e"]),
        (Branding(accent=Colour("#0f766e;}", "#2dd4bf")), ["accent.light"]),
        (Branding(imprint={"fr": "Texte"}), ["branding.imprint", "'fr'", "en, de, ja"]),
        (Branding(privacy={"en": " "}), ["branding.privacy", "en:"]),
        (Branding(welcome={"en": "x" * 70_000}), ["branding.welcome", "65536"]),
        (Branding(imprint={"en": "https:///imprint"}), ["branding.imprint", "host name"]),
        (Branding(imprint={"en": "https:///imprint\n"}), ["branding.imprint", "host name"]),
        (Branding(privacy={"en": "https://[x"}), ["branding.privacy", "host name"]),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_remedy(given: Branding, words: list[str]) -> None:
    found = branding.problem(given)
    assert all(word in found for word in words), found


@pytest.mark.parametrize(
    "given",
    [
        Branding(),
        Branding(name="KI-Portal der Universität"),
        Branding(imprint={"de": "https://www.example.org/impressum", "en": "# Imprint\n\nWe."}),
        Branding(imprint={"de": "https://www.example.org/impressum\n"}),
    ],
)
def test_what_can_be_shown_is_accepted(given: Branding) -> None:
    assert branding.problem(given) == ""


@pytest.mark.parametrize(
    "content",
    [
        png(),
        png(1024, 1024),
        svg('<path d="M0 0h9v9z" fill="#123"/>'),
        svg('<defs><linearGradient id="a"/></defs><rect fill="url(#a)"/><use xlink:href="#a"/>'),
        svg("<style>.a{fill:red}</style><g class='a'/>"),
        b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>" + svg("<title>Logo</title>"),
    ],
)
def test_a_logo_is_accepted(content: bytes) -> None:
    assert branding.logo_problem(content) == ""


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "neither"),
        (b"GIF89a", "neither"),
        (b"\xff\xd8\xff\xe0", "neither"),
        (b"x" * 70_000, "65536"),
        (png()[:-4], "whole"),
        (png() + b"<script>", "whole"),
        (png().replace(b"IDAT", b"IDAX"), "whole"),
        (png(2000, 10), "2000 by 10"),
        (png(0, 10), "0 by 10"),
        (svg("<script>alert(1)</script>"), "<script>"),
        (svg("<g onload='alert(1)'/>"), "onload"),
        (svg("<g ONCLICK='alert(1)'/>"), "onclick"),
        (svg("<a href='javascript:alert(1)'/>"), "element"),
        (svg("<use href='https://evil.example/x.svg#a'/>"), "href"),
        (svg("<use xlink:href='data:image/svg+xml,x'/>"), "href"),
        (svg("<image href='https://evil.example/x.png'/>"), "<image>"),
        (svg("<foreignObject/>"), "foreignObject"),
        (svg("<animate attributeName='href' to='javascript:alert(1)'/>"), "animate"),
        (svg("<set attributeName='onload' to='alert(1)'/>"), "<set>"),
        (svg("<style>@import 'https://evil.example/'</style>"), "style"),
        (svg("<style>a{fill:url(https://evil.example/)}</style>"), "style"),
        (svg("<style>a{fill:u\\72l(https://evil.example/)}</style>"), "style"),
        (svg("<rect fill='url(\"https://evil.example/\")'/>"), "fill"),
        (svg("<p xmlns='http://www.w3.org/1999/xhtml'/>"), "element"),
        (b'<?xml-stylesheet href="x.xsl"?>' + svg(""), "DOCTYPE"),
        (b'<!DOCTYPE svg [<!ENTITY a "b">]>' + svg("&a;"), "DOCTYPE"),
        (svg("<g>"), "well-formed"),
        (svg("", SVG.replace("2000", "1999")), "no SVG"),
        (svg("", SVG.replace(' viewBox="0 0 9 9"', "")), "viewBox"),
        (svg("").decode().encode("utf-16"), "neither"),
        (b"<html></html>", "no SVG"),
    ],
)
def test_trying_a_logo_that_does_more_than_be_seen(content: bytes, word: str) -> None:
    assert word in branding.logo_problem(content)
