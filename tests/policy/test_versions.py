"""Each version is said once in the code, and what people read agrees with it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from sluice.contracts import fields
from sluice.version import RELEASE
from sluice.web.database import schema
from sluice.wire import hello
from tests.policy.tree import ROOT

CHANGES = (ROOT / "CHANGELOG.md").read_text()
CONTRACTS = (ROOT / "docs" / "contracts.md").read_text()
GOLDEN = ROOT / "tests" / "golden" / "contracts"
NAMED = re.compile(r"`([^`]+)`")
IN_CODE = {
    "sluice.contracts.fields.VERSION": str(fields.VERSION),
    "sluice.wire.hello.MAJOR, MINOR": f"{hello.MAJOR}.{hello.MINOR}",
    "sluice.web.database.schema.REVISION": schema.REVISION,
}


def versions() -> list[tuple[list[str], str, str]]:
    """Return the rows of the contracts' table: examples, version, where the code says it."""
    table = CONTRACTS.split("## Versions\n")[1].split("\n## ")[0]
    rows = [line.split("|")[2:5] for line in table.splitlines() if line.startswith("| ")]
    return [(NAMED.findall(one), version.strip(), code.strip(" `")) for one, version, code in rows[2:]]


def test_the_change_log_has_the_release() -> None:
    assert re.search(rf"^## {re.escape(RELEASE)} \(\d{{4}}-\d\d-\d\d\)$", CHANGES, re.MULTILINE)


def test_the_change_log_tells_nothing_twice() -> None:
    """Two entries that name the same three things are one told twice."""
    entries = [line for line in CHANGES.splitlines() if line.startswith("- ")]
    for one, other in combinations(entries, 2):
        same = set(NAMED.findall(one)) & set(NAMED.findall(other))
        assert len(same) < 3, f"{sorted(same)}:\n{one}\n{other}"


def test_the_distribution_takes_its_version_from_the_code() -> None:
    settings = (ROOT / "files/sluice/pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in settings
    assert 'path = "src/sluice/version.py"' in settings


def test_the_contracts_tell_the_codes_versions() -> None:
    rows = versions()
    assert {code for _, _, code in rows} == set(IN_CODE)
    for examples, version, code in rows:
        assert version == IN_CODE[code], f"docs/contracts.md, Versions: {examples}"


def test_the_page_of_the_wire_tells_the_codes_version() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    assert re.findall(r"\[major, minor\], [^\[]{0,20}\[(\d+), (\d+)\]", text) == [
        (str(hello.MAJOR), str(hello.MINOR))
    ]


@pytest.mark.parametrize("example", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_an_example_carries_the_version_that_the_contracts_give_it(example: Path) -> None:
    """A document that stands alone has a version; what travels inside another has that one's."""
    document = json.loads(example.read_text())
    given = [version for examples, version, _ in versions() if example.name in examples]
    carried = [str(document["version"])] if "version" in document else []
    assert given == carried, f"docs/contracts.md, Versions: {example.name}"
