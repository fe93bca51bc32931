"""The pages hang together: each stands in the site's navigation, and each link and anchor leads somewhere."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sluice.scheduler.instances.instance import Phase
from sluice.scheduler.publish import metrics
from tests.policy.tree import ROOT, read_yaml

FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2`*\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+(?:\([^()\s]*\))?)(?: \"[^\"]*\")?\)")
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def pages() -> list[str]:
    """Return every Markdown file of the tree, those that git does not know yet too."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted(name for name in listed.stdout.splitlines() if (ROOT / name).exists())


def navigation() -> list[str]:
    """Return the pages of the site's navigation, in order."""
    return _leaves(read_yaml(ROOT / "docs" / "site" / "mkdocs.yml")["nav"])


def _leaves(items: list[Any]) -> list[str]:
    found: list[str] = []
    for item in items:
        values = [item] if isinstance(item, str) else list(item.values())
        for value in values:
            found += [value] if isinstance(value, str) else _leaves(value)
    return found


def links(text: str) -> list[str]:
    """Return where a page's links lead within the tree."""
    prose = CODE.sub("", FENCE.sub("", text))
    return [target for target in LINK.findall(prose) if not OUTSIDE.match(target)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the names of a page's headings, as code hosts and the site make them."""
    found: Counter[str] = Counter()
    names = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        name = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return frozenset(names)


def dead(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in links(text):
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.resolve())):
            found.append(link)
    return found


def test_the_navigation_has_every_page_once() -> None:
    assert sorted(navigation()) == pages(), "docs/site/mkdocs.yml, nav"


@pytest.mark.parametrize("name", pages())
def test_links_and_anchors_lead_somewhere(name: str) -> None:
    page = ROOT / name
    assert dead(page, page.read_text(encoding="utf-8")) == []


def test_the_readme_lists_no_page_twice() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = [
        re.findall(r"\]\(([^)#]+)\)", line.split("|")[1]) for line in text.splitlines() if line[:1] == "|"
    ]
    found = Counter(page for row in listed for page in row)
    assert {page for page, count in found.items() if count > 1} == set()


def test_the_decisions_are_all_listed_by_their_headings() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(
        r"^- \[(.+)\]\((.+)\)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    there = {path.name: path for path in folder.glob("*.md") if path.name != "README.md"}
    headings = {name: path.read_text(encoding="utf-8").splitlines()[0][2:] for name, path in there.items()}
    assert {name: heading for heading, name in listed} == headings


def test_the_picture_of_an_instances_life_has_the_schedulers_states() -> None:
    text = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", text, re.DOTALL)
    states = {state for line in drawn.splitlines() for state in re.findall(r"\b[a-z]+\b", line.split(":")[0])}
    assert states == {*metrics.STATES, *(phase.value for phase in Phase)}


def test_a_dead_link_is_noticed() -> None:
    """A check that cannot fail proves nothing."""
    page = ROOT / "docs" / "page.md"
    assert dead(page, "[x](api.md) [y](../README.md#two-commands)\n") == []
    assert dead(
        page, "[x](gone.md) `[y](no.md)` [z](api.md#no-such-heading) [s](https://example.org/)\n"
    ) == [
        "gone.md",
        "api.md#no-such-heading",
    ]
    assert dead(page, "```\n[x](gone.md)\n```\n") == []


def named_headings() -> list[tuple[str, str, str]]:
    """Return each heading that code or a page names as `docs/PAGE.md, "HEADING"`: file, page, heading."""
    listed = subprocess.run(
        ["git", "ls-files", "--", "*.py", "*.yml", "*.j2", "*.md", ":!CHANGELOG.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [
        (name, page, heading)
        for name in listed.stdout.splitlines()
        if (ROOT / name).exists()
        for page, heading in re.findall(
            r'(docs/[a-z/-]+\.md),\s+"(\w[^"\n]*)"', (ROOT / name).read_text("utf-8")
        )
    ]


def test_a_heading_that_code_names_is_on_its_page() -> None:
    found = named_headings()
    assert len(found) > 5
    assert [
        (name, page, heading)
        for name, page, heading in found
        if not any(one.startswith(heading) for one in HEADING.findall((ROOT / page).read_text("utf-8")))
    ] == []
