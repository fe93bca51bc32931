"""One word means one thing: in documents (docs/glossary.md), and among the classes of a process."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from lab import rooms
from tests.policy.tree import ROOT

CODE = rooms.read()

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
    r"anew": "again",
    r"for ever": "forever",
    r"statuses of their own": "separate statuses",
    r"makes? (?:it )?a matter of": "lasts, or takes",
    r"who(?:ever)? does not stream": "requests that do not stream",
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


def starts() -> list[str]:
    """Return the modules with which processes begin, and the commands."""
    return sorted(
        name
        for name in CODE.files
        if name.endswith((".command", ".wsgi")) or (".commands." in name and not name.endswith(".common"))
    )


def shared_names(code: rooms.Code, start: str) -> dict[str, list[str]]:
    """Return the names of several public classes that a process loads, with the modules of these classes."""
    found = defaultdict(list)
    for module in rooms.loaded(code, start):
        for node in ast.parse(code.files[module].read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


@pytest.mark.parametrize("start", starts())
def test_no_process_loads_two_classes_of_one_name(start: str) -> None:
    """Who reads `Instance` in the code of a process must not have to look which of two it is."""
    assert shared_names(CODE, start) == {}


def test_two_classes_of_one_name_are_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("class Same: ...\nclass _Own: ...\n")
    code = rooms.Code(
        {name: tmp_path / f"{name}.py" for name in ("one", "two")},
        {"one": frozenset(("two",)), "two": frozenset()},
    )
    assert shared_names(code, "one") == {"Same": ["one", "two"]}


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
