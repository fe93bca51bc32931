"""One word means one thing: documents use the words of docs/glossary.md, and none of those listed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.policy.tree import ROOT

GLOSSARY = ROOT / "docs/glossary.md"

# What not to write -> what to write instead. Left sides are regular expressions, matched without case.
INSTEAD = {
    r"circuit[ -]breaker|breaks? the circuit|circuit": "the gate: close the gate, open the gate",
    r"front door": "nginx",
    r"public clients?": "OpenAI's and Anthropic's clients",
    r"mend(?:s|ed|ing)?": "correct, or fix",
    r"for good": "permanently",
    r"in plain words": "explicitly",
    r"of one's own": "your own",
    r"as it comes": "by default",
    r"comes? along": "is bundled, or appears",
    r"way in": "access, or the path into the cluster",
}

# The change log says what was true of each version; it is not rewritten.
LEFT_OUT = {"CHANGELOG.md"}


def pages() -> list[Path]:
    """Return every document for people."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")]
    found += [ROOT / "files/forcecommand/THREATS.md", ROOT / "inventories/README.md", ROOT / "demo/README.md"]
    return sorted(page for page in found if page.name not in LEFT_OUT)


def terms(text: str) -> list[str]:
    """Return the terms that a glossary defines."""
    return [
        term
        for row in re.findall(r"(?m)^\| (\*\*.*?) \|", text)
        for term in re.findall(r"\*\*(.+?)\*\*", row)
    ]


def unwanted(text: str) -> list[str]:
    """Return what a text says and should not, with the line and what to write in its place."""
    return [
        f"line {number}: {match[0]!r}; write: {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for wrong, better in INSTEAD.items()
        for match in re.finditer(rf"\b(?:{wrong})\b", line, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_uses_the_words_of_the_glossary(page: Path) -> None:
    assert unwanted(page.read_text()) == []


def test_the_glossary_defines_each_term_once() -> None:
    found = terms(GLOSSARY.read_text())
    assert len(found) == len(set(found))
    assert {"gateway", "relay", "front", "engine", "instance", "place", "session", "key", "gate"} <= set(
        found
    )


def test_an_unwanted_word_is_noticed() -> None:
    """A check that cannot fail proves nothing."""
    assert unwanted("fine\nThe Circuit breaker is open.") == [
        "line 2: 'Circuit breaker'; write: the gate: close the gate, open the gate"
    ]
    assert not unwanted("Integrated circuits are fine.")
