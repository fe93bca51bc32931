"""Keys, the cache of principals, and an authority that is slow, gone or wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.authority import Principal
from sluice.contracts.usage import UsageRecord
from sluice.proxy.accounts import principals
from sluice.proxy.accounts.keys import presented_key, well_formed
from sluice.proxy.accounts.principals import PrincipalCache
from tests.fakes.authority import make_key
from tests.fakes.wire_relay import FakeRelay
from tests.unit.proxy.conftest import USAGE, Bed, answer_well, chat, config, eventually, open_bed

SOMEBODY = Principal("u-1", "k-1", "api_key", "api", (), None)


# --- the form of keys -----------------------------------------------------------------------------------


def test_keys_of_both_kinds_are_well_formed() -> None:
    assert well_formed(make_key("sk"))
    assert well_formed(make_key("pt"))


@pytest.mark.parametrize(
    "change", [lambda k: k + "0", lambda k: k[1:], lambda k: k.upper(), lambda k: k + "\n"]
)
def test_keys_of_another_form_are_not(change: Any) -> None:
    assert not well_formed(change(make_key()))


def test_a_single_wrong_letter_is_found_by_the_checksum() -> None:
    key = make_key()
    for at in range(len("sk-sluice-"), len(key) - 9):
        other = "A" if key[at] != "A" else "B"
        assert not well_formed(key[:at] + other + key[at + 1 :])


def test_the_checksum_is_the_crc_32_of_what_stands_before_the_last_dash() -> None:
    stem = "sk-sluice-" + "Ab_-" * 10 + "xyz"
    assert well_formed(f"{stem}-{zlib.crc32(stem.encode()):08x}")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_bearer_key_is_taken_from_the_header(scheme: str) -> None:
    key = make_key()
    assert presented_key(f"{scheme} {key}") == key
    assert presented_key(None) is None
    assert presented_key(key) is None


# --- the cache ------------------------------------------------------------------------------------------


def test_a_belief_is_fresh_for_its_time_and_stale_for_longer() -> None:
    cache = PrincipalCache(ttl=5, stale=900)
    cache.learn("c", SOMEBODY, 100)
    fresh = cache.fresh("c", 105)
    assert fresh is not None
    assert fresh.principal is SOMEBODY
    assert cache.fresh("c", 105.1) is None
    assert cache.stale("c", 1000) is SOMEBODY
    assert cache.stale("c", 1000.1) is None


def test_an_unknown_key_is_remembered_as_unknown_and_never_stale() -> None:
    cache = PrincipalCache(ttl=5, stale=900)
    cache.learn("c", None, 100)
    fresh = cache.fresh("c", 101)
    assert fresh is not None
    assert fresh.principal is None
    assert cache.stale("c", 101) is None


def test_a_revoked_key_replaces_the_known_one() -> None:
    cache = PrincipalCache(ttl=5, stale=900)
    cache.learn("c", SOMEBODY, 100)
    cache.learn("c", None, 106)
    assert cache.stale("c", 107) is None


def test_guessed_keys_push_out_no_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principals, "MOST_UNKNOWN", 10)
    cache = PrincipalCache(ttl=5, stale=900)
    cache.learn("known", SOMEBODY, 100)
    for number in range(1000):
        cache.learn(f"guess-{number}", None, 101)
    assert len(cache) == 11
    assert cache.fresh("known", 102) is not None


def test_the_least_recently_used_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principals, "MOST_KNOWN", 2)
    cache = PrincipalCache(ttl=5, stale=900)
    for name in ("a", "b"):
        cache.learn(name, SOMEBODY, 100)
    cache.fresh("a", 101)
    cache.learn("c", SOMEBODY, 102)
    assert cache.fresh("a", 103) is not None
    assert cache.fresh("b", 103) is None


# --- with the authority ---------------------------------------------------------------------------------


async def test_a_key_is_asked_for_once_while_its_answer_is_fresh(bed: Bed) -> None:
    for _ in range(5):
        assert (await bed.get("/v1/models"))[0] == 200
    assert bed.authority.questions == 1
    assert bed.metric("sluice_proxy_principals_total", result="hit") == 4


async def test_questions_and_usage_have_the_form_of_the_contract(bed: Bed) -> None:
    golden = Path(__file__).parents[3] / "golden" / "contracts"
    await bed.post(chat())
    await bed.settled()
    question, usage = bed.authority.documents["/v1/principal"], bed.authority.documents["/v1/usage"]
    assert question.keys() == json.loads((golden / "authority-question.json").read_text()).keys()
    assert question["credential"] == hashlib.sha256(bed.key.encode()).hexdigest()
    expected = json.loads((golden / "usage-record.json").read_text())
    assert usage["records"][0].keys() | {"version"} == expected.keys() | {"version"}


async def test_many_at_once_ask_together(bed: Bed) -> None:
    await asyncio.gather(*(bed.get("/v1/models") for _ in range(20)))
    assert bed.authority.questions == 1


async def test_a_revoked_key_stops_working_once_its_answer_is_old(bed: Bed) -> None:
    assert (await bed.get("/v1/models"))[0] == 200
    bed.authority.revoke(bed.key)
    await asyncio.sleep(0.25)
    assert (await bed.get("/v1/models"))[0] == 401


async def test_known_keys_go_on_while_the_authority_is_gone_and_unknown_ones_do_not(bed: Bed) -> None:
    assert (await bed.post(chat()))[0] == 200
    await bed.authority.stop()
    await asyncio.sleep(0.25)
    assert (await bed.post(chat()))[0] == 200
    assert bed.metric("sluice_proxy_principals_total", result="stale") == 1
    assert (await bed.service.status.health())["authority"] == {"reachable": False}
    bed.key = make_key()
    status, headers, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "authority_unreachable")
    assert "Retry-After" in headers


async def test_nobody_with_a_known_key_waits_for_an_authority_that_hangs(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.proxy.accounts.authority.ASK_TIMEOUT", 0.4)
    assert (await bed.post(chat()))[0] == 200
    bed.authority.answers.clear()
    await asyncio.sleep(0.25)
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(20):
        begun = loop.time()
        assert (await bed.post(chat()))[0] == 200
        times.append(loop.time() - begun)
    # The first finds out.
    assert times[0] > 0.3
    assert sum(times[1:]) < 4.0
    bed.authority.revoke(bed.key)
    bed.authority.answers.set()
    end = loop.time() + 5
    while (await bed.post(chat()))[0] == 200:
        assert loop.time() < end, "a revoked key still works"
        await asyncio.sleep(0.05)


async def test_an_authority_that_speaks_nonsense_counts_as_gone(bed: Bed) -> None:
    bed.authority.status = 500
    status, _, answer = await bed.get("/v1/models")
    assert (status, answer["error"]["code"]) == (503, "authority_unreachable")
    bed.authority.status = None
    assert (await bed.get("/v1/models"))[0] == 200


async def test_a_gone_authority_is_asked_again_as_soon_as_it_is_back(tmp_path: Path) -> None:
    async with open_bed(config(tmp_path), FakeRelay(answer_well), authority=False) as bed:
        assert (await bed.get("/v1/models"))[0] == 503
        await bed.authority.start()
        assert (await bed.get("/v1/models"))[0] == 200


# --- usage ----------------------------------------------------------------------------------------------


async def test_every_end_is_settled_with_its_figures(bed: Bed) -> None:
    await bed.post(chat())
    (record,) = await bed.settled()
    assert isinstance(record, UsageRecord)
    assert (record.user, record.key_id, record.model, record.cluster) == ("u-1", "k-1", "smol", "demo")
    assert (record.instance, record.status, record.code) == ("smol-0badcafe", 200, "")
    assert (record.input_tokens, record.output_tokens, record.measured) == (7, 3, True)
    assert record.bytes_in == len(json.dumps(chat()))
    assert record.first_byte is not None
    assert 0 <= record.wait <= record.first_byte <= record.duration


async def test_a_stream_is_counted_by_chunks_unless_the_engine_says(bed: Bed) -> None:
    async with bed.http.post(
        "http://proxy/v1/chat/completions", json=chat(stream=True), headers=bed.headers()
    ) as got:
        await got.read()
    (record,) = await bed.settled()
    assert (record.output_tokens, record.measured) == (3, False)
    assert USAGE["completion_tokens"] == 3


async def test_refusals_that_reached_a_model_are_settled_and_others_are_not(bed: Bed) -> None:
    async def refuse(call: Any) -> None:
        call.fail("no_instance")

    bed.relay.answer = refuse
    await bed.post(chat())
    await bed.post(chat(model="other"))
    await bed.post(b"{")
    (record,) = await bed.settled()
    assert (record.status, record.code, record.output_tokens) == (503, "no_instance", 0)


async def test_usage_waits_for_an_authority_that_is_gone(bed: Bed) -> None:
    await bed.get("/v1/models")
    bed.authority.status = 500
    for _ in range(3):
        await bed.post(chat())
    assert not bed.authority.usage
    bed.authority.status = None
    assert len(await bed.settled()) == 3
    assert bed.metric("sluice_proxy_usage_dropped_total") == 0


async def test_usage_is_delivered_before_the_process_ends(tmp_path: Path) -> None:
    async with open_bed(replace(config(tmp_path), usage_batch=3600.0), FakeRelay(answer_well)) as bed:
        await bed.post(chat())
        assert not bed.authority.usage
    assert len(bed.authority.usage) == 1


async def test_beyond_its_room_usage_drops_the_oldest_and_says_so(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One segment for each write, and an empty one for the next.
    monkeypatch.setattr("sluice.proxy.accounts.spool.SEGMENT_BYTES", 1)
    monkeypatch.setattr("sluice.proxy.accounts.spool.MOST_BYTES", 4)
    await bed.get("/v1/models")
    bed.authority.status = 500
    for _ in range(9):
        await bed.post(chat())
    bed.authority.status = None
    await eventually(lambda: (bed.metric("sluice_proxy_usage_dropped_total") or 0) > 0)
    await eventually(lambda: bed.metric("sluice_proxy_usage_waiting") == 0)
    assert len(bed.authority.usage) + (bed.metric("sluice_proxy_usage_dropped_total") or 0) == 9


async def test_usage_that_the_authority_never_took_is_settled_by_the_next_process(tmp_path: Path) -> None:
    settings = config(tmp_path)
    async with open_bed(settings, FakeRelay(answer_well)) as first:
        await first.get("/v1/models")
        first.authority.status = 500
        for _ in range(3):
            await first.post(chat())
    async with open_bed(settings, FakeRelay(answer_well)) as second:
        await eventually(lambda: len(second.authority.usage) == 3)
        assert {record.status for record in second.authority.usage.values()} == {200}


async def test_usage_that_is_refused_does_not_block_what_follows(bed: Bed) -> None:
    await bed.get("/v1/models")
    bed.authority.status = 400
    await bed.post(chat())
    await eventually(lambda: bed.metric("sluice_proxy_usage_dropped_total") == 1)
    bed.authority.status = None
    await bed.post(chat())
    assert len(await bed.settled()) == 1
