"""A site's own name, logo, colour and texts on the pages, and what is wrong with them. Pure."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Optional
from xml.etree import ElementTree

from sluice.web.words import labels
from sluice.web.words.languages import LANGUAGES
from sluice.web.words.links import has_host

MAX_NAME = 40
# The largest text, in characters, and the largest logo, in bytes: every visitor loads it.
MAX_TEXT = 64 * 1024
MAX_LOGO = 64 * 1024
MAX_PIXELS = 1024
# What text needs on its ground (WCAG 2.2, 1.4.3).
CONTRAST = 4.5

# The grounds on which links stand, as in page/src/styles/base.css.
GROUNDS = {
    "light": ("#fbfcfc", "#ffffff", "#f0f4f4"),
    "dark": ("#0e1516", "#172123", "#131c1e"),
}
# What a colour is mixed with to have more contrast.
_TOWARDS = {"light": "#000000", "dark": "#ffffff"}

_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = ("href", "{http://www.w3.org/1999/xlink}href")
_ELEMENTS = frozenset(
    (
        *("svg", "g", "defs", "title", "desc", "path", "rect", "circle", "ellipse", "line", "polyline"),
        *("polygon", "text", "tspan", "use", "symbol", "linearGradient", "radialGradient", "stop"),
        *("clipPath", "mask", "pattern", "style"),
    )
)
# In attributes and style sheets: only what is in the file itself may be referred to.
_OUTSIDE = re.compile(r"@import|url\(\s*[\"']?\s*(?!#|[\"'\s])|javascript:|expression\(|\\", re.IGNORECASE)


class Rgb(NamedTuple):
    """A colour, each part from 0 to 255."""

    red: int
    green: int
    blue: int

    @classmethod
    def read(cls, text: str) -> Rgb:
        """Read a colour such as #0f766e."""
        return cls(int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))

    def __str__(self) -> str:
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    def mixed(self, other: Rgb, part: float) -> Rgb:
        """Return the colour with a part (0 to 1) of another one."""
        return Rgb(*(round(mine + (its - mine) * part) for mine, its in zip(self, other)))

    def luminance(self) -> float:
        """Return the relative luminance, as WCAG defines it."""
        parts = [value / 255 for value in self]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@dataclass(frozen=True)
class Colour:
    """A colour in light and in dark, such as #0f766e."""

    light: str
    dark: str


@dataclass(frozen=True)
class Branding:
    """A site's own look; what is not set looks like Sluice.

    `logo`: the path of an SVG or PNG file on the gateway. `accent`: the colour of links and buttons.
    `welcome`, `imprint`, `privacy`: Markdown by language; of the last two also an https:// URL.
    """

    name: str = "Sluice"
    logo: str = ""
    accent: Optional[Colour] = None
    welcome: dict[str, str] = field(default_factory=dict)
    imprint: dict[str, str] = field(default_factory=dict)
    privacy: dict[str, str] = field(default_factory=dict)


def contrast(one: Rgb, other: Rgb) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((one.luminance(), other.luminance()))
    return (lighter + 0.05) / (darker + 0.05)


def on(colour: Rgb) -> Rgb:
    """Return black or white, whichever is easier to read on a colour."""
    return max((Rgb(0, 0, 0), Rgb(255, 255, 255)), key=lambda text: contrast(text, colour))


def problem(branding: Branding) -> str:
    """Return what is wrong with a branding, "" if nothing is."""
    return next(_problems(branding), "")


def _problems(branding: Branding) -> Iterator[str]:
    wrong = labels.problem(branding.name, MAX_NAME)
    if wrong:
        yield (
            f"branding.name (web_site_name): {branding.name!r} must be one line of 1 to {MAX_NAME} visible "
            "characters"
        )
    if branding.accent is not None:
        yield from _colour_problems("light", branding.accent.light)
        yield from _colour_problems("dark", branding.accent.dark)
    for name in ("welcome", "imprint", "privacy"):
        yield from _text_problems(
            f"branding.{name} (web_site_{name})", getattr(branding, name), name != "welcome"
        )


def _text_problems(where: str, texts: Mapping[str, str], links: bool) -> Iterator[str]:
    for language, text in texts.items():
        if language not in LANGUAGES:
            known = ", ".join(LANGUAGES)
            yield f"{where}: {language!r} is no language of the pages; they are: {known}"
        if not text.strip() or len(text) > MAX_TEXT:
            yield f"{where}, {language}: must have 1 to {MAX_TEXT} characters"
        if links and is_link(text) and not has_host(text.strip()):
            yield f"{where}, {language}: {text!r} is no URL with a host name"


def is_link(text: str) -> bool:
    """Tell whether a text is the address of a page elsewhere, and no page itself."""
    return re.fullmatch(r"https://[^\s<>\"]+", text.strip()) is not None


def _colour_problems(mode: str, text: str) -> Iterator[str]:
    where = f"branding.accent.{mode} (web_site_accent)"
    if not _COLOUR.fullmatch(text):
        yield f"{where}: {text!r} is no colour; write it as #0f766e"
        return
    colour = Rgb.read(text)
    ground = min(map(Rgb.read, GROUNDS[mode]), key=lambda one: contrast(colour, one))
    found = contrast(colour, ground)
    if found < CONTRAST:
        yield (
            f"{where}: {text} has a contrast of {found:.1f}:1 on {ground}, the ground of links in {mode} "
            f"pages; text needs {CONTRAST}:1. {nearest(mode, colour)} is the nearest colour that has it"
        )


def nearest(mode: str, colour: Rgb) -> Rgb:
    """Return the colour, darker (in light pages) or lighter (in dark ones) until links can be read in it."""
    towards = Rgb.read(_TOWARDS[mode])
    grounds = [Rgb.read(ground) for ground in GROUNDS[mode]]
    for step in range(101):
        mixed = colour.mixed(towards, step / 100)
        if all(contrast(mixed, ground) >= CONTRAST for ground in grounds):
            return mixed
    return towards


def style(accent: Colour) -> str:
    """Return the style sheet of a colour, to stand after the pages' own."""
    rules = {"accent": [], "accent-strong": [], "on-accent": []}  # type: dict[str, list[Rgb]]
    for text in (accent.light, accent.dark):
        colour = Rgb.read(text)
        words = on(colour)
        rules["accent"].append(colour)
        rules["on-accent"].append(words)
        # Further from its words: what is pointed at is as easy to read.
        rules["accent-strong"].append(colour.mixed(on(words), 0.2))
    parts = [f"--{name}:light-dark({light},{dark})" for name, (light, dark) in rules.items()]
    bubble = "--bubble:color-mix(in srgb,var(--accent) 12%,var(--raised))"
    return ":root{" + ";".join([*parts, bubble]) + "}\n"


# --- the logo --------------------------------------------------------------------------------------------


def logo_problem(content: bytes) -> str:
    """Return what is wrong with a logo, "" if it is an SVG or PNG that a page can show and nothing else."""
    if len(content) > MAX_LOGO:
        return f"has {len(content)} bytes; at most {MAX_LOGO} are allowed, because every visitor loads it"
    if content.startswith(b"\x89PNG"):
        return _png_problem(content)
    return _svg_problem(content)


def _png_problem(content: bytes) -> str:
    broken = "is no whole PNG file; export it again"
    at, kinds = 8, []
    while at + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        end = at + 12 + length
        if end > len(content) or zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(
            content[end - 4 : end], "big"
        ):
            return broken
        kinds.append(kind)
        at = end
    if content[:8] != b"\x89PNG\r\n\x1a\n" or at != len(content):
        return broken
    if kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or b"IDAT" not in kinds:
        return broken
    width, height = struct.unpack(">II", content[16:24])
    if not 0 < width <= MAX_PIXELS or not 0 < height <= MAX_PIXELS:
        return f"has {width} by {height} pixels; at most {MAX_PIXELS} by {MAX_PIXELS} are allowed"
    return ""


def _svg_problem(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "is neither a PNG file nor an SVG file in UTF-8"
    # Entities can make a small file large, and an instruction can name another file.
    if "<!DOCTYPE" in text or "<!ENTITY" in text or "<?xml-stylesheet" in text:
        return "has a DOCTYPE or a style sheet of its own; export it as plain SVG"
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - without DOCTYPE there are no entities
    except (ElementTree.ParseError, RecursionError, ValueError):
        return "is neither a PNG file nor a well-formed SVG file"
    if root.tag != f"{_SVG}svg":
        return 'is no SVG file: its root must be <svg xmlns="http://www.w3.org/2000/svg">'
    if not re.fullmatch(r"\s*(?:-?[0-9.]+[\s,]+){3}[0-9.]+\s*", root.get("viewBox", "")):
        return "has no viewBox, so it has no proportions; export it with one"
    return next(filter(None, map(_element_problem, root.iter())), "")


def _element_problem(element: ElementTree.Element) -> str:
    name = str(element.tag).removeprefix(_SVG)
    if name not in _ELEMENTS:
        return f"has an element <{name}>, which a logo does not need; export it as plain SVG"
    if name == "style" and _OUTSIDE.search(element.text or ""):
        return "has a style that refers to something outside; export it as plain SVG"
    for attribute, value in element.attrib.items():
        local = attribute.rpartition("}")[2].lower()
        outside = attribute in _HREF and not value.strip().startswith("#")
        if local.startswith("on") or outside or _OUTSIDE.search(value):
            return f"has an attribute {local} that a logo does not need; export it as plain SVG"
    return ""
