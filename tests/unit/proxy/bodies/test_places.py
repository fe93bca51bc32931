"""A request takes one place for each answer: how bodies are counted, and the error for too many."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sluice.bodies.costs import Bounds
from sluice.bodies.positions import ITEMS_A_PLACE
from sluice.bodies.scan import BodyScanner
from sluice.contracts.paths import PATHS
from sluice.proxy.bodies.body import INLINE_PARSE, BodySummary, summary_of, summary_of_scanned
from tests.fakes.wire_relay import model
from tests.unit.proxy.conftest import Bed, chat, eventually

COMPLETIONS, EMBEDDINGS, RERANK = "/v1/completions", "/v1/embeddings", "/v1/rerank"
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SAID = [{"role": "user", "content": "Hello?"}]


def read(path: str, body: dict[str, Any], pad: int) -> BodySummary:
    raw = json.dumps({"model": "smol", **body, "pad": "x" * pad}).encode()
    if len(raw) <= INLINE_PARSE:
        return summary_of(raw, PATHS[path], Bounds())
    scanner = BodyScanner(PATHS[path])
    for start in range(0, len(raw), 1000):
        scanner.feed(raw[start : start + 1000])
    return summary_of_scanned(scanner, PATHS[path])


@pytest.mark.parametrize(
    ("path", "body", "places", "copies"),
    [
        (CHAT, {"messages": SAID}, 1, 1),
        (CHAT, {"messages": SAID, "n": 128}, 128, 128),
        (CHAT, {"messages": SAID, "n": 2.0}, 2, 2),
        (CHAT, {"messages": [*SAID, *SAID, *SAID]}, 1, 1),
        (RESPONSES, {"input": [*SAID, *SAID]}, 1, 1),
        (MESSAGES, {"messages": [*SAID, *SAID], "max_tokens": 5}, 1, 1),
        ("/tokenize", {"prompt": "once", "n": 128}, 1, 128),
        (COMPLETIONS, {"prompt": "once"}, 1, 1),
        (COMPLETIONS, {"prompt": ["once"] * 20}, 20, 20),
        (COMPLETIONS, {"prompt": ["once"] * 3, "n": 2, "best_of": 4}, 12, 12),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, 1, 1),
        (COMPLETIONS, {"prompt": [[1, 2, 3], [4], []]}, 3, 3),
        (COMPLETIONS, {"prompt": [[1, 2, 3]] * 70, "n": 1}, 70, 70),
        (COMPLETIONS, {"prompt": "once", "best_of": 0}, 1, 1),
        (EMBEDDINGS, {"input": ["a"] * 32}, 1, 32),
        (EMBEDDINGS, {"input": ["a"] * 33}, 2, 33),
        (EMBEDDINGS, {"input": [[1, 2]] * 65}, 3, 65),
        (EMBEDDINGS, {"input": [1, 2, 3]}, 1, 1),
        (RERANK, {"query": "q", "documents": [{"text": "a", "id": "b"}, "c"] * 17}, 2, 34),
        (RERANK, {"query": "q", "documents": {"content": [{"type": "text", "text": "a"}] * 33}}, 2, 33),
    ],
)
def test_answers_prompts_and_inputs_are_counted_at_every_size(
    path: str, body: dict[str, Any], places: int, copies: int
) -> None:
    for pad in (0, 70_000, 300_000):
        asked = read(path, body, pad)
        assert (asked.places, asked.copies) == (places, copies)


async def test_a_cluster_is_told_the_places(bed: Bed) -> None:
    assert (await bed.post(chat(n=3)))[0] == 200
    assert (await bed.post(chat()))[0] == 200
    assert [call.head.places for call in bed.relay.calls] == [3, 1]


@pytest.mark.parametrize(
    ("path", "body", "param", "most"),
    [
        (CHAT, chat(n=65), "n", 64),
        (COMPLETIONS, {"model": "smol", "prompt": ["x"] * 65}, "prompt", 64),
        (COMPLETIONS, {"model": "smol", "prompt": ["x"] * 33, "best_of": 2}, "prompt", 64),
        (EMBEDDINGS, {"model": "smol", "input": ["x"] * 2049}, "input", 64 * ITEMS_A_PLACE["embeddings"]),
    ],
)
async def test_more_than_an_instance_has_is_400_and_says_how_many_are_allowed(
    bed: Bed, path: str, body: dict[str, Any], param: str, most: int
) -> None:
    bed.relay.models = [model("smol", capabilities=("chat", "completions", "embeddings"))]
    await eventually(lambda: "embeddings" in bed.service.fleet.clusters[0].models["smol"].capabilities)
    status, _, answer = await bed.post(body, path)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_request", param)
    assert f"at most {most}" in answer["error"]["message"]
    assert not bed.relay.calls


async def test_answers_asked_for_at_once_wait_for_as_many_places(bed: Bed) -> None:
    """A request for all places leaves none: another one waits until it ends, and is reported as demand."""
    bed.relay.models = [model("smol", concurrency=4)]
    await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].concurrency == 4)
    go = asyncio.Event()
    answer = bed.relay.answer

    async def hold(call: Any) -> None:
        await go.wait()
        await answer(call)

    bed.relay.answer = hold
    first = asyncio.create_task(bed.post(chat(n=4)))
    await eventually(lambda: len(bed.relay.calls) == 1)
    second = asyncio.create_task(bed.post(chat(n=3)))
    cluster = bed.service.fleet.clusters[0]
    await eventually(lambda: cluster.demand.waiting(0.0) == {"smol": 3})
    assert len(bed.relay.calls) == 1
    go.set()
    assert (await first)[0] == 200
    await second
    assert len(bed.relay.calls) == 2
    assert cluster.demand.waiting(0.0) == {}
