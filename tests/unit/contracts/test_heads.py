"""The fast way to read a head gives exactly the same results as the slow way."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.soak.mutate import fields, noise
from sluice.contracts.encoding import decode_json, encode_json
from sluice.contracts.heads import InstanceRequest, RequestHead, ResponseHead
from sluice.errors import RecordError
from tests.trials import examples
from tests.unit.wire.ends import HEAD, INSTANCE_HEAD

HEADS = [
    HEAD,
    INSTANCE_HEAD,
    ResponseHead(200, "text/event-stream", "smollm2-01234567"),
    ResponseHead(404, "text/plain"),
]


def outcome(read: Any, raw: bytes) -> Any:
    """Return the head, or the text of its refusal."""
    try:
        return read(raw)
    except RecordError as error:
        return str(error)


def long_way(kind: Any) -> Any:
    return lambda raw: kind.parse(decode_json(raw))


@pytest.mark.parametrize("head", HEADS)
def test_our_own_spelling_and_others_are_read_alike(head: Any) -> None:
    document = json.loads(head.encode())
    turned = dict(reversed(document.items()))
    for raw in (encode_json(document), json.dumps(document).encode(), encode_json(turned)):
        assert type(head).read(raw) == head


@examples(500)
@given(st.sampled_from(HEADS), st.integers(0, 1 << 32), st.booleans())
def test_whatever_comes_both_ways_agree(head: RequestHead | InstanceRequest, seed: int, blind: bool) -> None:
    chance = Random(seed)
    raw = head.encode()
    raw = noise(chance, raw) if blind else fields(chance, raw)
    if not blind and chance.random() < 0.7:
        raw = raw.replace(b": ", b":").replace(b", ", b",")
    kind = type(head)
    assert outcome(kind.read, raw) == outcome(long_way(kind), raw)


@pytest.mark.parametrize("length", [0, 1, (1 << 40), (1 << 40) + 1, 999_999_999_999, 10**12])
def test_lengths_at_their_bounds(length: int) -> None:
    for head in (HEAD, INSTANCE_HEAD):
        raw = encode_json(json.loads(head.encode()) | {"length": length})
        assert outcome(type(head).read, raw) == outcome(long_way(type(head)), raw)
