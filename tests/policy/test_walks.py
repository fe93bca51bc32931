"""CONTRIBUTING's walks lead past files and tests that are there, and what they promise is checked is."""

from __future__ import annotations

import dataclasses
import re

import pytest

from sluice.contracts.models import SERVICE_FIELDS, Burst, ModelEntry, SlurmRequest
from sluice.contracts.paths import CAPABILITIES, PATHS
from sluice.proxy.api import answers
from sluice.proxy.requests import tokens
from tests.policy.test_promises import missing
from tests.policy.tree import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CONTRACTS = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w.-]+/[\w./-]*)(?:::\w+)?`")


def walks() -> dict[str, str]:
    """Return the table and the walks by their headings."""
    sections = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    return {
        heading: text for heading, _, text in (part.partition("\n") for part in sections) if "| --- |" in text
    }


@pytest.mark.parametrize("walk", walks())
def test_a_walk_names_files_and_tests_that_are_there(walk: str) -> None:
    text = walks()[walk]
    gone = [
        path for path in NAMED.findall(text) if not (ROOT / path).exists() and not path.startswith("build/")
    ]
    assert gone + missing(text) == []


def test_there_are_five_walks_and_a_table() -> None:
    assert "Where does this go?" in walks()
    assert len([heading for heading, text in walks().items() if "what fails if you forget it" in text]) == 5


def section(heading: str) -> str:
    return CONTRACTS.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("record", [ModelEntry, SlurmRequest, Burst])
def test_the_contracts_name_every_field_of_an_entry(record: type) -> None:
    described = section("Model entry")
    names = {field.name for field in dataclasses.fields(record)}
    assert {name for name in names if f"`{name}`" not in described} == set()


@pytest.mark.parametrize("page", ["docs/contracts.md", "docs/api.md"])
def test_every_capability_is_described(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path, capability in PATHS.items():
        assert f"`{capability}`" in text
        assert path in text


def test_the_row_capability_names_every_path_and_no_other() -> None:
    row = re.search(r"^\| capability \|.*$", CONTRACTS, re.MULTILINE)
    assert row
    assert {path: name for name, path in re.findall(r"`(\w+)` `(/[\w/]+)`", row[0])} == dict(PATHS)
    assert set(PATHS.values()) == set(CAPABILITIES)


def test_the_pages_name_every_field_that_replaces_no_job() -> None:
    left_out = re.search(r"replaces no job\), without (.*?); then a zero byte", section("Model entry"))
    other = re.search(
        r"Other changes \((.*?)\)", (ROOT / "docs" / "scheduler.md").read_text(encoding="utf-8")
    )
    assert left_out
    assert other
    assert sorted(re.findall(r"`(\w+)`", left_out[1])) == sorted(SERVICE_FIELDS)
    assert sorted(re.findall(r"`(\w+)`", other[1])) == sorted(SERVICE_FIELDS)


def test_the_proxys_tables_have_every_capability() -> None:
    assert set(tokens.CHUNK) == set(CAPABILITIES)
    assert set(answers.TEXT_FIELDS) == set(CAPABILITIES)
