"""The page for people says what the code does with each field of each path."""

from __future__ import annotations

from sluice.contracts.paths import CAPABILITIES, PATHS

from . import conformance


def test_the_page_tells_what_is_checked_as_the_code_checks_it() -> None:
    """`python -m tests.policy.conformance` writes the tables."""
    page = conformance.PAGE.read_text()
    assert conformance.FIRST in page
    assert page == conformance.rendered(page)


def test_every_path_is_in_the_tables() -> None:
    assert set(conformance.BODIES) == set(CAPABILITIES)
    told = conformance.tables()
    assert all(f"| `{path}` |" in told for path in PATHS)
