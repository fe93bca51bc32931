"""Pictures of all main pages: `python -m lab.screenshots`, or `make screenshots`.

The site runs on this machine with a stub in place of the cluster; Chromium is Debian's. Output: a PNG file of
each scene, language, theme and device, and index.html to look through them.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import html
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, StorageState

from lab.screenshots import people, place, said
from lab.screenshots.scenes import (
    DEVICES,
    README,
    SCENES,
    SIZES,
    THEMES,
    Device,
    Picture,
    Scene,
    nothing,
    path_of,
)
from sluice.web.words.languages import LANGUAGES
from tests.browser import stored
from tests.browser.chromium import Target, launched
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "screenshots"
IMAGES = ROOT / "docs" / "images"
LOCALES = {"en": "en-GB", "de": "de-DE", "ja": "ja-JP"}
QUALITY = 80
DRAWN = ".diagram img"


@dataclass(frozen=True)
class Wanted:
    """What to make: scenes, languages and devices; whether whole pages; where to."""

    scenes: tuple[Scene, ...]
    languages: tuple[str, ...]
    devices: tuple[Device, ...]
    whole: bool
    readme: bool
    out: Path

    def of(self, language: str, device: Device) -> list[Scene]:
        """Return the scenes of a language on a device."""
        if not self.readme:
            return [scene for scene in self.scenes if device in scene.devices]
        chosen = {one.scene for one in README if (one.language, one.device) == (language, device)}
        return [scene for scene in self.scenes if scene.name in chosen]


@dataclass
class Studio:
    """A browser at the pictured site."""

    browser: Browser
    target: Target
    cookies: dict[str, StorageState]
    parts: dict[str, str]

    def tab(self, who: str, language: str, device: Device) -> tuple[Tab, Profiles]:
        """Open a tab of somebody who has used the site for some weeks."""
        width, height = SIZES[device]
        # A picture of a colour on its way to another one is nobody's page.
        options: dict[str, Any] = {"reduced_motion": "reduce"}
        if device == "phone":
            options |= {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
        profiles = Profiles(self.browser, self.target, None, self.cookies)
        size = {"width": width, "height": height}
        tab = profiles(who or None, locale=LOCALES[language], viewport=size, **options)
        tab.page.route("**/personas", lambda route: route.fulfill(json=said.site_personas(language)))
        if who == "alice":
            stored.put_rows(tab, said.rows(language, int(time.time() * 1000)))
        return tab, profiles


def main(argv: list[str]) -> int:
    """Make the pictures; return 0."""
    wanted = _wanted(argv)
    # Who ends this ends its site too: those processes are in groups of their own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    wanted.out.mkdir(parents=True, exist_ok=True)
    begun, count = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        place.prepare(folder)
        with place.running(folder / "site") as site:
            target = Target(site.url, site.issuer, site.ca_file, site.accounts)
            with launched(target.pins(), "--font-render-hinting=none") as browser:
                studio = Studio(browser, target, {}, {})
                _introduce(studio)
                studio.parts = people.settle(site)
                for language in wanted.languages:
                    for device in wanted.devices:
                        made = sum(1 for _ in _pictures(studio, wanted, language, device))
                        count += made
                        people.tidy(site)
                        passed = time.monotonic() - begun
                        print(f"[screenshots] {language} {device}: {made}, {passed:.0f} s", flush=True)
    if not wanted.readme:
        _index(wanted.out)
    print(f"{count} pictures in {time.monotonic() - begun:.0f} s: {_place(wanted)}")
    return 0


def _place(wanted: Wanted) -> str:
    return str(IMAGES if wanted.readme else wanted.out / "index.html")


def _wanted(argv: list[str]) -> Wanted:
    parser = argparse.ArgumentParser(
        prog="python -m lab.screenshots", description=(__doc__ or "").splitlines()[0]
    )
    names = [scene.name for scene in SCENES]
    parser.add_argument("--only", action="append", choices=names, metavar="SCENE", help=", ".join(names))
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="this language alone")
    parser.add_argument("--device", action="append", choices=DEVICES, help="this device alone")
    parser.add_argument("--whole", action="store_true", help="whole pages, not only what a window shows")
    parser.add_argument("--readme", action="store_true", help="the README's pictures alone, to docs/images")
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the output")
    given = parser.parse_args(argv)
    return Wanted(
        scenes=tuple(scene for scene in SCENES if not given.only or scene.name in given.only),
        languages=tuple(given.language or LANGUAGES),
        devices=tuple(given.device or DEVICES),
        whole=given.whole,
        readme=given.readme,
        out=given.out,
    )


def _introduce(studio: Studio) -> None:
    """Have both people sign in once: the database knows them from then on."""
    profiles = Profiles(studio.browser, studio.target, None, studio.cookies)
    for who in ("alice", "bob"):
        profiles(who)
    profiles.end(failed=False)


def _pictures(studio: Studio, wanted: Wanted, language: str, device: Device) -> Iterator[Path]:
    """Take the pictures of a language on a device."""
    scenes = wanted.of(language, device)
    for who in sorted({scene.who for scene in scenes}):
        looked = [scene for scene in scenes if scene.who == who and scene.act is nothing]
        # What is done in one scene is to be seen in no other.
        done = [[scene] for scene in scenes if scene.who == who and scene.act is not nothing]
        for together in (looked, *done):
            tab, profiles = studio.tab(who, language, device)
            for scene in together:
                yield from _take(tab, scene, Picture(scene.name, language, "light", device), wanted, studio)
            profiles.end(failed=False)


def _take(tab: Tab, scene: Scene, first: Picture, wanted: Wanted, studio: Studio) -> Iterator[Path]:
    tab.page.emulate_media(color_scheme="light")
    tab.open(path_of(scene, {**studio.parts, "conversation": said.conversation(first.language)}))
    scene.act(tab, first.language)
    tab.find(scene.shows)
    for theme in THEMES:
        drawn = tab.attributes(DRAWN, "src")
        tab.page.emulate_media(color_scheme=theme)
        if drawn and theme == "dark":
            _drawn_anew(tab, drawn)
        picture = dataclasses.replace(first, theme=theme)
        if wanted.readme and picture in README:
            yield _save_small(tab, IMAGES / f"{picture.name}.webp")
        elif not wanted.readme:
            file = wanted.out / f"{picture.name}.png"
            tab.page.screenshot(path=file, full_page=wanted.whole, animations="disabled", caret="hide")
            yield file


def _drawn_anew(tab: Tab, before: list[str]) -> None:
    """Wait until a diagram has the colours of the other theme."""
    tab.wait(lambda: tab.attributes(DRAWN, "src") not in ([], before))


def _save_small(tab: Tab, file: Path) -> Path:
    """Save what the window shows as WebP, of which Playwright knows nothing."""
    session = tab.cdp()
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    session.detach()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(taken["data"]))
    return file


def _index(out: Path) -> None:
    """Write a page with all pictures that are there, by scene."""
    rows = []
    for scene in SCENES:
        cells = [
            f'<figure><a href="{name}.png"><img src="{name}.png" alt="" loading="lazy"></a>'
            f"<figcaption>{language} {theme} {device}</figcaption></figure>"
            for device in DEVICES
            for language in LANGUAGES
            for theme in THEMES
            for name in [Picture(scene.name, language, theme, device).name]
            if (out / f"{name}.png").exists()
        ]
        rows.append(f"<h2>{html.escape(scene.name)}</h2><div>{''.join(cells)}</div>")
    style = (
        "body{font-family:system-ui;margin:1rem;background:#888}div{display:flex;flex-wrap:wrap;gap:1rem}"
        "figure{margin:0}img{height:24rem;display:block}"
    )
    page = f'<!doctype html><meta charset="utf-8"><title>Sluice</title><style>{style}</style>{"".join(rows)}'
    (out / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
