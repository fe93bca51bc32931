"""What the threat model says is tested is tested: each such line names a test, and the test is there."""

from __future__ import annotations

import re

import pytest

from tests.policy.tree import ROOT

PAGES = ("files/forcecommand/THREATS.md", "SECURITY.md")
TESTED = re.compile(r"\btested\b")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def promises() -> list[tuple[str, int, str]]:
    """Return the pages' lines that say that something is tested, with page and number."""
    found = []
    for page in PAGES:
        for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
            if TESTED.search(line) and "says *tested*" not in line:
                found.append((page, number, line))
    return found


def unnamed(line: str) -> list[str]:
    """Return the places of a line that say *tested* without the name of a test behind it."""
    behind = [line[match.end() :] for match in TESTED.finditer(line)]
    return [rest[:60] for rest in behind if not re.match(r"[^()|]{0,60}?: ?`tests/", rest)]


def missing(line: str) -> list[str]:
    """Return the tests that a line names and that are not in their file."""
    found = []
    for path, name in NAMED.findall(line):
        file = ROOT / path
        defined = file.is_file() and re.search(rf"^(?:async )?def {name}\(", file.read_text(), re.MULTILINE)
        if not defined:
            found.append(f"{path}::{name}")
    return found


def test_the_pages_make_promises() -> None:
    assert len(promises()) >= 10


@pytest.mark.parametrize(
    ("page", "number", "line"), promises(), ids=[f"{page}:{number}" for page, number, _ in promises()]
)
def test_a_line_that_says_tested_names_tests_that_are_there(page: str, number: int, line: str) -> None:
    assert unnamed(line) == [], f"{page}:{number}"
    assert missing(line) == [], f"{page}:{number}"


def test_a_promise_without_a_test_is_noticed() -> None:
    """A check that cannot fail proves nothing."""
    assert unnamed("held by nothing (tested)")
    assert unnamed("(tested: `tests/policy/test_promises.py::test_x`) and (tested by hand)")
    assert not unnamed("(tested by fuzzing: `tests/policy/test_promises.py::test_x`)")
    assert missing("(tested: `tests/policy/test_promises.py::test_that_was_never_written`)")
    assert missing("(tested: `tests/policy/test_gone.py::test_x`)")
