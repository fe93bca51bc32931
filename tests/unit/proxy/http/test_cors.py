"""Which pages of other sites may use the API from a browser, and what they may read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sluice.errors import ConfigError
from sluice.proxy.config import check
from sluice.proxy.http.cors import EXPOSED, Cors
from tests.fakes.wire_relay import FakeRelay
from tests.unit.proxy.conftest import CHAT, Bed, answer_well, chat, config, open_bed

NOTES = "https://notes.example.org"
ASKS = {
    "Origin": NOTES,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


@pytest_asyncio.fixture
async def open_to_notes(tmp_path: Path) -> AsyncIterator[Bed]:
    """A proxy that lets one site in."""
    settings = replace(config(tmp_path), cors_origins=(NOTES, "http://localhost:3000"))
    async with open_bed(settings, FakeRelay(answer_well)) as bed:
        yield bed


async def options(bed: Bed, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Ask as a browser does before a request; return status and the headers of CORS, and Allow."""
    async with bed.http.options(f"http://proxy{path}", headers=headers) as response:
        assert await response.read() == b"" or response.status != 204
        return response.status, cors(response.headers)


def cors(headers: Any) -> dict[str, str]:
    """Return the headers that concern pages of other sites."""
    return {name: value for name, value in headers.items() if name.startswith(("Access-", "Vary", "Allow"))}


async def test_a_preflight_of_a_site_that_is_let_in_is_answered_without_a_key(open_to_notes: Bed) -> None:
    status, headers = await options(open_to_notes, CHAT, **ASKS)
    assert status == 204
    assert headers == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": NOTES,
        "Access-Control-Expose-Headers": EXPOSED,
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": ASKS["Access-Control-Request-Headers"],
        "Access-Control-Max-Age": "600",
    }
    status, headers = await options(open_to_notes, "/v1/models", **ASKS)
    assert (status, headers["Access-Control-Allow-Methods"]) == (204, "GET")
    assert not open_to_notes.authority.questions


@pytest.mark.parametrize(
    "change",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": f"{NOTES}.evil.example"},
        {"Origin": NOTES.upper()},
        {"Origin": "null"},
        {"Origin": f"{NOTES}:8443"},
    ],
)
async def test_another_site_is_let_in_nowhere(open_to_notes: Bed, change: dict[str, str]) -> None:
    status, headers = await options(open_to_notes, CHAT, **{**ASKS, **change})
    assert (status, headers) == (405, {"Vary": "Origin", "Allow": "POST"})
    async with open_to_notes.http.post(
        f"http://proxy{CHAT}", json=chat(), headers=open_to_notes.headers(**change)
    ) as response:
        assert (response.status, cors(response.headers)) == (200, {"Vary": "Origin"})


async def test_an_options_request_that_is_no_preflight_is_refused(open_to_notes: Bed) -> None:
    assert (await options(open_to_notes, CHAT))[0] == 405
    assert (await options(open_to_notes, CHAT, Origin=NOTES))[0] == 405
    assert (await options(open_to_notes, "/v1/nowhere", **ASKS))[0] == 404


async def test_a_page_may_read_answers_errors_and_streams(open_to_notes: Bed) -> None:
    expected = {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": NOTES,
        "Access-Control-Expose-Headers": EXPOSED,
    }
    page = open_to_notes.headers(Origin=NOTES)
    for body in (chat(), chat(stream=True), {"model": "smol"}, chat(model="other")):
        async with open_to_notes.http.post(f"http://proxy{CHAT}", json=body, headers=page) as response:
            assert cors(response.headers) == expected
            await response.read()
    async with open_to_notes.http.post(
        f"http://proxy{CHAT}", json=chat(), headers={"Origin": NOTES}
    ) as answer:
        assert (answer.status, cors(answer.headers)) == (401, expected)
    async with open_to_notes.http.get("http://proxy/v1/models", headers=page) as answer:
        assert (answer.status, cors(answer.headers)) == (200, expected)


async def test_as_it_comes_no_page_of_another_site_is_let_in(bed: Bed) -> None:
    assert await options(bed, CHAT, **ASKS) == (405, {"Allow": "POST"})
    status, headers, _ = await bed.post(chat(), Origin=NOTES)
    assert (status, cors(headers)) == (200, {})


def test_all_sites_may_be_let_in_but_never_with_credentials() -> None:
    every = Cors(("*",))
    assert every.headers(NOTES)["Access-Control-Allow-Origin"] == "*"
    told = every.preflight(ASKS, "POST") or {}
    assert told["Access-Control-Allow-Headers"] == ASKS["Access-Control-Request-Headers"]
    assert not any("Credentials" in name for name in (*told, *every.headers(NOTES)))


@pytest.mark.parametrize("asked", ["", "a b", "x\r\ny: z", "a;b", ",", "x" * 65, ",".join(["a"] * 33)])
def test_headers_that_no_browser_asks_for_are_not_repeated(asked: str) -> None:
    told = Cors((NOTES,)).preflight({**ASKS, "Access-Control-Request-Headers": asked}, "POST")
    assert told is not None
    assert "Access-Control-Allow-Headers" not in told


@pytest.mark.parametrize(
    "origins",
    [("*", NOTES), (f"{NOTES}/",), (f"{NOTES}/page",), ("notes.example.org",), ("https://Notes.example.org",),
     ("null",), ("",), ("https://*.example.org",), (f"{NOTES}\n",)],
)  # fmt: skip
def test_what_is_no_origin_stops_the_start(tmp_path: Path, origins: tuple[str, ...]) -> None:
    settings = replace(config(tmp_path), status_port=9464, max_body=1 << 20, cors_origins=origins)
    with pytest.raises(ConfigError, match=r"proxy\.json: cors_origins\[[01]\]: must be an origin"):
        check(settings, "proxy.json")
