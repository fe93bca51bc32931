"""Guesses of keys: how many an address may make, and whose requests still work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from sluice.proxy.accounts import guesses
from sluice.proxy.accounts.guesses import Guesses, client_address
from tests.fakes.authority import make_key
from tests.fakes.wire_relay import FakeRelay
from tests.unit.proxy.conftest import Bed, answer_well, chat, config, eventually, open_bed

ROOT = Path(__file__).parents[4]
MOST = 5
HERE, THERE = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "192.0.2.8"}


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A proxy that lets an address present five wrong keys a minute."""
    settings = replace(config(tmp_path), guesses_per_minute=MOST)
    async with open_bed(settings, FakeRelay(answer_well)) as opened:
        yield opened


# --- the budgets ----------------------------------------------------------------------------------------


def test_an_address_has_its_budget_each_minute_and_no_other_pays_for_it() -> None:
    budget = Guesses(3)
    assert [budget.take("a", 100.0) for _ in range(3)] == [None] * 3
    assert budget.take("a", 110.0) == 50.0
    assert budget.take("b", 110.0) is None
    assert budget.take("a", 159.9) is not None
    assert [budget.take("a", 160.0) for _ in range(4)][:3] == [None] * 3


def test_a_key_that_turns_out_right_costs_nothing() -> None:
    budget = Guesses(1)
    for _ in range(5):
        assert budget.take("a", 100.0) is None
        budget.give_back("a")
    assert budget.take("a", 100.0) is None
    assert budget.take("a", 100.0) is not None
    budget.give_back("never seen")


def test_an_address_is_logged_once_in_its_minute() -> None:
    budget = Guesses(1)
    for now, expected in ((100.0, True), (101.0, False), (170.0, True)):
        budget.take("a", now)
        budget.take("a", now)
        assert budget.to_tell("a") is expected


def test_addresses_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MOST_ADDRESSES", 10)
    budget = Guesses(1)
    for number in range(1000):
        budget.take(f"address-{number}", 100.0)
    assert len(budget) == 10


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        (None, ""),
        ("", ""),
        ("203.0.113.1, 192.0.2.7", ""),
        ("localhost", ""),
    ],
)
def test_the_address_is_the_one_that_nginx_gives(header: str | None, address: str) -> None:
    assert client_address(header) == address


def test_nginx_puts_its_peers_address_in_place_of_what_a_client_sent() -> None:
    """In nginx, a location that sets a header inherits no headers from the outer block."""
    template = (ROOT / "roles/nginx/templates/nginx.conf.j2").read_text()
    api = template[template.index("location {{ nginx_path }}/v1/ {") :]
    api = api[: api.index("\n        }")]
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in api
    given = [line.split()[2] for line in template.splitlines() if "proxy_set_header X-Forwarded-For" in line]
    assert set(given) == {"$remote_addr;"}
    # The inventory names the load balancers that are trusted for it.
    assert (
        template.index("{% if nginx_balancers %}")
        < template.index("real_ip")
        < template.index("limit_req_zone")
    )


# --- at the API -----------------------------------------------------------------------------------------


async def guess(bed: Bed, key: str, where: dict[str, str]) -> tuple[int, str]:
    """Present a key; return status and code."""
    status, headers, answer = await bed.get("/v1/models", Authorization=f"Bearer {key}", **where)
    if status == 429:
        assert 1 <= int(headers["Retry-After"]) <= 60
    return status, answer["error"]["code"] if status != 200 else ""


async def test_beyond_its_budget_an_address_is_told_to_wait_and_nothing_is_asked(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await bed.get("/v1/models", **HERE))[0] == 200
    wrong = [make_key() for _ in range(20)]
    with caplog.at_level(logging.WARNING, "sluice.proxy.accounts.authority"):
        found = [await guess(bed, key, HERE) for key in wrong]
    assert found == [(401, "invalid_api_key")] * MOST + [(429, "rate_limited")] * 15
    assert bed.authority.questions == 1 + MOST
    assert bed.metric("sluice_proxy_principals_total", result="slowed") == 15
    # Known keys still work from there; other addresses are not affected.
    assert (await bed.post(chat(), **HERE))[0] == 200
    assert await guess(bed, make_key(), THERE) == (401, "invalid_api_key")
    (line,) = [record for record in caplog.records if "wrong keys" in record.message]
    assert line.address == "192.0.2.7"  # type: ignore[attr-defined]
    logged = " ".join(str(vars(record)) for record in caplog.records)
    assert not [key for key in wrong if key in logged or key[-30:] in logged]


async def test_a_known_key_goes_on_when_its_answer_has_to_be_renewed(bed: Bed) -> None:
    assert (await bed.get("/v1/models", **HERE))[0] == 200
    for _ in range(MOST + 1):
        last = await guess(bed, make_key(), HERE)
    assert last == (429, "rate_limited")
    await asyncio.sleep(0.25)
    assert (await bed.get("/v1/models", **HERE))[0] == 200
    # An unknown key without a mark must wait at that address like the others.
    assert await guess(bed, bed.authority.add_key(), HERE) == (429, "rate_limited")


@pytest.mark.parametrize("prefix", ["pt", "sk"])
async def test_guesses_slow_nobody_else_behind_their_address(bed: Bed, prefix: str) -> None:
    """New page bearers, and keys with the mark that this proxy does not know yet, pass at once."""
    former, current = b"f" * 32, b"c" * 32
    bed.authority.marks = (current, former)
    await eventually(lambda: bed.service.stops.gateway_state.marks == (current, former))
    for _ in range(MOST + 1):
        last = await guess(bed, make_key(prefix), HERE)
    assert last == (429, "rate_limited")
    for secret in (current, former):
        mine = bed.authority.add_key(prefix=prefix, secret=secret)
        assert await guess(bed, mine, HERE) == (200, "")
        assert await guess(bed, make_key(prefix, secret), HERE) == (401, "invalid_api_key"), (
            "it only looks so"
        )
    assert await guess(bed, make_key(prefix, b"a" * 32), HERE) == (429, "rate_limited")


async def test_the_same_wrong_key_again_is_no_further_guess(bed: Bed) -> None:
    """A program with a revoked key causes no questions, and does not use up the guesses of others."""
    wrong = make_key()
    found = [await guess(bed, wrong, HERE) for _ in range(2)]
    asked = bed.authority.questions
    found += [await guess(bed, wrong, HERE) for _ in range(3 * MOST)]
    assert set(found) == {(401, "invalid_api_key")}
    # Questions during this time are renewals of the answer; each one counts.
    assert bed.authority.questions - asked < MOST


async def test_guesses_at_once_are_bounded_like_those_one_by_one(bed: Bed) -> None:
    found = await asyncio.gather(*(guess(bed, make_key(), HERE) for _ in range(50)))
    assert sorted(status for status, _ in found) == [401] * MOST + [429] * 45
    assert bed.authority.questions == MOST


async def test_neither_malformed_keys_nor_requests_without_one_are_guesses(bed: Bed) -> None:
    for _ in range(MOST + 3):
        async with bed.http.get("http://proxy/v1/models", headers=HERE) as got:
            assert got.status == 401
    for wrong in ("sk-sluice-nonsense", make_key()[:-1], "sk-proj-" + "a" * 40):
        found = [await guess(bed, wrong, HERE) for _ in range(MOST + 3)]
        assert set(found) == {(401, "invalid_api_key")}
    assert bed.authority.questions == 0
    assert await guess(bed, make_key(), HERE) == (401, "invalid_api_key")


async def test_many_requests_with_one_new_key_are_no_guesses(bed: Bed) -> None:
    answers = await asyncio.gather(*(bed.get("/v1/models", **HERE) for _ in range(40)))
    assert {status for status, _, _ in answers} == {200}
    assert await guess(bed, make_key(), HERE) == (401, "invalid_api_key")


async def test_keys_that_could_not_be_checked_are_no_guesses(bed: Bed) -> None:
    bed.authority.status = 500
    for _ in range(MOST + 3):
        assert await guess(bed, make_key(), HERE) == (503, "authority_unreachable")
    bed.authority.status = None
    assert await guess(bed, make_key(), HERE) == (401, "invalid_api_key")
