"""Build the documentation as a site that needs no other host: `python -m docs.site.build`.

The pages are the tree's own Markdown files, at the places where they lie, so that the same links serve here
and in a checkout; a role's page is its README with the table that roles/readme.py makes of its inputs.
Mermaid, which draws the pictures, comes from its npm package, as package-lock.json pins it. A dead link, a
link to a heading that is not there, a page outside the navigation, or an address of another host from which
a page would load something ends the build.
"""

from __future__ import annotations

import logging
import re
import runpy
import shutil
import sys
import time
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from pymdownx.slugs import slugify
from pymdownx.superfences import fence_code_format

from page.node import LOCKED, fetch, locked

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLACE = ROOT / "build" / "docs"
PAGES = (
    "*.md",
    "docs/*.md",
    "docs/decisions/*.md",
    "inventories/*.md",
    "roles/*/README.md",
    "page/*.md",
    "files/forcecommand/*.md",
    "demo/*.md",
    "tests/golden/slurm/*.md",
)
BESIDE = ("LICENSE", "docs/images/*.webp")
"""What pages link to or show and is no page."""
MERMAID = "assets/mermaid.js"
ITEM = re.compile(r"[-*] |\d+\. ")
LOADS = re.compile(r"<(?:script|link|img|iframe|source|audio|video|object|embed)\b[^>]*")
OUTSIDE = re.compile(r"""(?:src|href|data)=["']?((?:https?:)?//[^"'\s>]+)""")
THEMES_OWN = "https://unpkg.com/mermaid@11/dist/mermaid.min.js"
"""From where the theme would load Mermaid if the page had none."""


def main() -> int:
    """Build; return 0, or 1 when a page would load something from another host."""
    logging.basicConfig(level=logging.WARNING, format="docs: %(message)s")
    started = time.monotonic()
    pages, site = PLACE / "pages", PLACE / "site"
    gather(pages)
    _build(pages, site)
    shutil.copy(mermaid(), site / MERMAID)
    _unhook(site)
    found = outside(site)
    for page, address in found:
        print(f"docs: {page} would load {address}: pages load nothing from other hosts", file=sys.stderr)
    count = sum(1 for _ in pages.rglob("*.md"))
    print(f"{site.relative_to(ROOT)}/index.html: {count} pages in {time.monotonic() - started:.1f} s")
    return 1 if found else 0


def gather(pages: Path) -> None:
    """Lay the tree's pages into an empty folder, each at its own place."""
    shutil.rmtree(pages, ignore_errors=True)
    rendered = runpy.run_path(str(ROOT / "roles" / "readme.py"))["rendered"]
    for pattern in (*PAGES, *BESIDE):
        for source in sorted(ROOT.glob(pattern)):
            target = pages / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".webp":
                shutil.copy(source, target)
                continue
            has_inputs = (source.parent / "meta" / "argument_specs.yml").exists()
            text = rendered(source.parent) if has_inputs else source.read_text(encoding="utf-8")
            target.write_text(with_lists(text), encoding="utf-8")


def with_lists(text: str) -> str:
    """Return Markdown with an empty line between a paragraph and its list: code hosts need none there."""
    made: list[str] = []
    fenced = False
    for line in text.splitlines():
        before = made[-1] if made else ""
        if (
            not fenced
            and ITEM.match(line)
            and before.strip()
            and not (ITEM.match(before) or before[0] == " ")
        ):
            made.append("")
        fenced ^= line.lstrip().startswith("```")
        made.append(line)
    return "\n".join(made) + "\n"


def _build(pages: Path, site: Path) -> None:
    release = runpy.run_path(str(ROOT / "files" / "sluice" / "src" / "sluice" / "version.py"))["RELEASE"]
    fences = {"custom_fences": [{"name": "mermaid", "class": "mermaid", "format": fence_code_format}]}
    config: MkDocsConfig = load_config(
        str(HERE / "mkdocs.yml"),
        docs_dir=str(pages),
        site_dir=str(site),
        strict=True,
        copyright=f"Sluice {release}",
        markdown_extensions=[
            "tables",
            "attr_list",
            # Headings are named as in a checkout, so that a link to one serves in both.
            {"toc": {"permalink": True, "slugify": slugify(case="lower")}},
            {"pymdownx.superfences": fences},
            "pymdownx.highlight",
        ],
    )
    config.plugins.on_startup(command="build", dirty=False)
    try:
        build(config)
    finally:
        config.plugins.on_shutdown()


def mermaid() -> Path:
    """Return Mermaid's script, fetched where the version that is locked is not there yet."""
    place = PLACE / f"npm-{locked(HERE)[:16]}"
    script = place / "node_modules" / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js"
    if not script.exists():
        place.mkdir(parents=True, exist_ok=True)
        for name in LOCKED:
            shutil.copy(HERE / name, place)
        fetch(place=place)
    return script


def _unhook(site: Path) -> None:
    """Take the other host's address out of the theme's script, which never needs it here."""
    for script in (site / "assets" / "javascripts").glob("bundle.*.js"):
        text = script.read_text(encoding="utf-8")
        script.write_text(text.replace(THEMES_OWN, MERMAID), encoding="utf-8")


def outside(site: Path) -> list[tuple[str, str]]:
    """Return what pages would load from other hosts: page and address."""
    found = []
    for page in sorted(site.rglob("*.html")):
        for tag in LOADS.findall(page.read_text(encoding="utf-8")):
            found += [(str(page.relative_to(site)), address) for address in OUTSIDE.findall(tag)]
    for path in sorted((site / "assets").rglob("*")):
        if path.suffix == ".css" and re.search(
            r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")
        ):
            found.append((str(path.relative_to(site)), "an address in url()"))
        elif path.suffix == ".js" and "://unpkg.com/mermaid" in path.read_text(encoding="utf-8"):
            found.append((str(path.relative_to(site)), THEMES_OWN))
    return found


if __name__ == "__main__":
    sys.exit(main())
