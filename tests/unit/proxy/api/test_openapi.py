"""The API's description: complete, equal to the tables that it is made from, and public."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.bodies.positions import KINDS
from sluice.contracts.paths import CAPABILITIES, PATHS
from sluice.errors import CODES
from sluice.proxy.api import openapi
from sluice.proxy.api.causes import CAUSES
from sluice.proxy.api.schemas import ANSWERS, REQUESTS
from sluice.proxy.bodies.fields import ALL_OUTPUT_NAMES, MOST_COPIES
from tests.unit.proxy.conftest import Bed

DOCS = Path(__file__).resolve().parents[4] / "docs"
ROW = re.compile(r"^\| `([a-z_]+)` \| ([0-9]{3})[^|]* \| (.+?) \|(?: (.+?) \|)?$", re.MULTILINE)


def references(node: Any) -> Iterator[str]:
    """Yield all references in a document."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def find(document: dict[str, Any], reference: str) -> Any:
    """Return what a reference names. Raises KeyError."""
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def rows(text: str) -> dict[str, tuple[int, str, str]]:
    """Return the table of codes in a page."""
    return {found[1]: (int(found[2]), found[3], found[4]) for found in ROW.finditer(text)}


def test_every_path_is_described_and_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    described = {path for path, item in document["paths"].items() if "post" in item}
    assert described == set(PATHS)
    assert all(find(document, reference) for reference in references(document))
    assert document["servers"] == [{"url": "/"}], "it must be valid for any host name"


def test_every_capability_has_a_path_and_its_schemas() -> None:
    assert set(CAPABILITIES) == set(PATHS.values()) == set(REQUESTS) == set(ANSWERS)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_is_checked_on_every_path_is_described_on_every_path(capability: str) -> None:
    described = REQUESTS[capability]["properties"]
    assert described.keys() >= KINDS.keys()
    for name, least in (("n", 1), ("best_of", 0)):
        assert (described[name]["minimum"], described[name]["maximum"]) == (least, MOST_COPIES)
    assert {described[name]["minimum"] for name in ALL_OUTPUT_NAMES} == {0}


def test_every_code_is_explained_and_described_with_its_status() -> None:
    assert list(CAUSES) == list(CODES)
    document = openapi.document()
    post = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    for code, status in CODES.items():
        if CAUSES[code].on != "none":
            answer = find(document, post[str(status)]["$ref"])
            assert f"`{code}`" in answer["description"]
            assert code in json.dumps(answer["content"])


def test_the_pages_for_people_have_the_same_codes() -> None:
    contract = rows((DOCS / "contracts.md").read_text())
    assert {code: row[0] for code, row in contract.items()} == CODES
    told = rows((DOCS / "errors.md").read_text())
    assert told == {code: (CODES[code], cause.cause, cause.remedy) for code, cause in CAUSES.items()}


async def test_it_is_given_to_everybody_and_may_be_kept(bed: Bed) -> None:
    async with bed.http.get("http://proxy/v1/openapi.json") as answer:
        assert answer.status == 200
        assert await answer.json() == openapi.document()
        assert "public" in answer.headers["Cache-Control"]
        tag = answer.headers["ETag"]
    async with bed.http.get("http://proxy/v1/openapi.json", headers={"If-None-Match": tag}) as again:
        assert (again.status, await again.read()) == (304, b"")
    assert bed.authority.questions == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_it_takes_no_other_method(bed: Bed, method: str) -> None:
    async with bed.http.request(method, "http://proxy/v1/openapi.json") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
