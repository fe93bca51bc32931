"""Users learn nothing about each other through an engine's cache of prompts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sluice.contracts.authority import Principal
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError
from sluice.proxy.bodies.body import BodySummary
from sluice.proxy.bodies.isolation import Isolation
from tests.fakes.wire_relay import FakeRelay, model
from tests.unit.proxy.conftest import Bed, answer_well, chat, config, open_bed

ALL = tuple(PATHS.values())
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "Hello?"}]},
    "completions": {"prompt": "Hello?"},
    "responses": {"input": "Hello?"},
    "embeddings": {"input": ["Hello?"]},
    "rerank": {"query": "Hello?", "documents": ["Hello!"]},
    "messages": {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 5},
    "count_tokens": {"messages": [{"role": "user", "content": "Hello?"}]},
    "input_tokens": {"input": "Hello?"},
    "tokenize": {"prompt": "Hello?"},
}
PATH_OF = {capability: path for path, capability in PATHS.items() if capability in BODIES}


def principal(user: str = "u-1", project: str = "") -> Principal:
    return Principal(user, "k-1", "api_key", "api", (), None, project)


def asked(*cache_fields: str) -> BodySummary:
    return BodySummary("smol", stream=False, prefix=b"x", cache_fields=frozenset(cache_fields))


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A proxy with three models: one with a salt, one that can only disable its cache, one with neither."""
    relay = FakeRelay(answer_well)
    relay.models = [
        model(name, cache_isolation=way, capabilities=ALL)
        for name, way in (("salted", "salt"), ("forgets", "off"), ("shares", "none"))
    ]
    async with open_bed(config(tmp_path), relay) as opened:
        yield opened


def salt_of(member: bytes) -> str:
    salt: str = json.loads(b"{" + member + b'"a":1}')["cache_salt"]
    return salt


def test_each_user_has_a_salt_that_stays_and_that_nobody_else_has() -> None:
    isolation = Isolation("user")
    mine, again = (isolation.member("salt", principal(), asked()) for _ in range(2))
    assert mine == again
    assert salt_of(mine) != salt_of(isolation.member("salt", principal("u-2"), asked()))
    assert salt_of(mine) != salt_of(Isolation("user").member("salt", principal(), asked())), "it is a secret"
    assert "u-1" not in salt_of(mine)


def test_members_of_a_project_share_and_who_has_none_is_alone() -> None:
    isolation = Isolation("project")
    one, two = (isolation.member("salt", principal(user, "physics"), asked()) for user in ("u-1", "u-2"))
    assert one == two
    alone = {isolation.member("salt", principal(user), asked()) for user in ("u-1", "u-2", "physics")}
    assert len({one, *alone}) == 4


@pytest.mark.parametrize("way", ["salt", "off", "none"])
def test_a_site_may_have_all_share(way: str) -> None:
    assert Isolation("none").member(way, principal(), asked("cache_salt", "cache_prompt")) == b""


@pytest.mark.parametrize(("way", "field"), [("salt", "cache_salt"), ("off", "cache_prompt")])
def test_trying_a_salt_of_ones_own(way: str, field: str) -> None:
    with pytest.raises(SluiceError) as caught:
        Isolation("user").member(way, principal(), asked(field))
    assert (caught.value.code, caught.value.param) == ("invalid_request", field)


@pytest.mark.parametrize("filler", [0, 70_000], ids=["small", "large"])
@pytest.mark.parametrize("capability", BODIES)
async def test_the_salt_goes_with_every_path_and_size(bed: Bed, capability: str, filler: int) -> None:
    for name, expected in (("salted", "cache_salt"), ("forgets", "cache_prompt"), ("shares", None)):
        document = {"model": name, **BODIES[capability], "user": "x" * filler}
        status, _, answer = await bed.post(document, path=PATH_OF[capability])
        assert status == 200, answer
        call = bed.relay.calls[-1]
        sent = json.loads(call.body)
        assert call.head.length == len(call.body)
        added = sent.keys() - document.keys() - {"stream_options"}
        assert added == ({expected} if expected else set())
        assert {key: sent[key] for key in document} == document


@pytest.mark.parametrize("filler", [0, 70_000], ids=["small", "large"])
async def test_trying_anothers_salt_at_the_api(bed: Bed, filler: int) -> None:
    for name, field, value in (("salted", "cache_salt", "a"), ("forgets", "cache_prompt", True)):
        for given in (value, None):
            body = {"model": name, **BODIES["chat"], field: given, "user": "x" * filler}
            status, _, answer = await bed.post(body)
            assert (status, answer["error"]["param"]) == (400, field)
    assert not bed.relay.calls
    status, _, _ = await bed.post({"model": "shares", **BODIES["chat"], "cache_salt": "a"})
    assert status == 200, "if the service sets none, the client's own goes to the engine"


async def test_streams_carry_the_salt_beside_the_question_for_tokens(bed: Bed) -> None:
    bed.relay.models = [model("salted", cache_isolation="salt", usage="continuous")]
    async with bed.http.post(
        "http://proxy/v1/chat/completions", json=chat(model="salted", stream=True), headers=bed.headers()
    ) as response:
        await response.read()
    sent = json.loads(bed.relay.calls[-1].body)
    assert len(sent["cache_salt"]) == 32
    if "stream_options" in sent:
        assert sent["stream_options"]["include_usage"]


async def test_a_conversation_meets_its_instance_again_and_users_are_spread(bed: Bed, tmp_path: Path) -> None:
    other = bed.authority.add_key()
    for key in (bed.key, bed.key, other):
        await bed.post({"model": "salted", **BODIES["chat"]}, Authorization=f"Bearer {key}")
    mine, again, others = (call.head.affinity for call in bed.relay.calls)
    assert mine == again != others


async def test_a_body_without_room_for_the_salt_is_too_large(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [model("salted", cache_isolation="salt")]
    settings = replace(config(tmp_path), max_body=100_000, max_buffered=1_000_000)
    async with open_bed(settings, relay) as bed:
        stem = len(json.dumps({"model": "salted", **BODIES["chat"], "user": ""}))
        for size, status in ((100_000 - 48, 200), (100_000 - 47, 413), (100_000, 413)):
            body = {"model": "salted", **BODIES["chat"], "user": "x" * (size - stem)}
            assert (await bed.post(body))[0] == status, size
