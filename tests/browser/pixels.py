"""What a reader sees of an element, pixel by pixel: style sheets do not tell what forced colours do."""

from __future__ import annotations

import zlib

from playwright.sync_api import FloatRect

from tests.browser.tab import Tab

Colour = tuple[int, int, int]
Picture = list[list[Colour]]

# So much around an element belongs to its picture: rings are drawn outside.
MARGIN = 6


def picture(tab: Tab, selector: str) -> Picture:
    """Return the rows of pixels of the first element that is shown, with what is around it."""
    one = tab.find(selector)
    one.scroll_into_view_if_needed()
    box = one.bounding_box()
    assert box is not None, selector
    left, top = max(0, int(box["x"]) - MARGIN), max(0, int(box["y"]) - MARGIN)
    width, height = int(box["width"]) + 2 * MARGIN + 1, int(box["height"]) + 2 * MARGIN + 1
    clip: FloatRect = {"x": left, "y": top, "width": width, "height": height}
    shot = tab.page.screenshot(clip=clip, animations="disabled", caret="hide")
    return decoded(shot)


def decoded(png: bytes) -> Picture:
    """Return the pixels of a PNG of eight bits for each colour, as browsers write them."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    depth, kind, interlaced = png[24], png[25], png[28]
    assert (depth, interlaced) == (8, 0) and kind in (2, 6), "another kind of PNG"
    step = 3 if kind == 2 else 4
    packed, at = b"", 8
    while at < len(png):
        length, name = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        packed += png[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    raw, before, rows = zlib.decompress(packed), bytes(width * step), []
    for row in range(height):
        start = row * (width * step + 1)
        before = _line(raw[start], raw[start + 1 : start + 1 + width * step], before, step)
        rows.append([(before[x], before[x + 1], before[x + 2]) for x in range(0, width * step, step)])
    return rows


def _line(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """Undo what PNG does to a line before it packs it (RFC 2083, 6)."""
    made = bytearray(line)
    for at in range(len(made)):
        left = made[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = {0: 0, 1: left, 2: above[at], 3: (left + above[at]) // 2}.get(kind)
        if guess is None:
            wanted = left + above[at] - corner
            guess = min((left, above[at], corner), key=lambda value: abs(wanted - value))
        made[at] = (made[at] + guess) % 256
    return bytes(made)


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((_light(one), _light(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _light(colour: Colour) -> float:
    parts = (part / 255 for part in colour)
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def changed(before: Picture, after: Picture, least: float = 3.0) -> int:
    """Return how many pixels have another colour now, one that stands out from the old one.

    Bold letters make some elements wider: what both pictures have is compared.
    """
    pairs = [
        pair
        for rows in zip(before, after, strict=False)
        for pair in zip(*rows, strict=False)
        if pair[0] != pair[1]
    ]
    stand_out = {pair for pair in set(pairs) if contrast(*pair) >= least}
    return sum(pair in stand_out for pair in pairs)


def edge(shown: Picture) -> float:
    """Return how far the left edge stands out, halfway down: what one meets coming from outside."""
    row = shown[len(shown) // 2]
    return max(contrast(row[0], pixel) for pixel in row[: 2 * MARGIN])
