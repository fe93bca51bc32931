"""The worst that one request may have a real engine compile holds up nobody else for more than a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import openai
import pytest

from tests.system.service import MODEL, QUESTION

MOST_SECONDS = 1.0
ASKED = 8
Body = dict[str, Any]


def lengths(number: int) -> Body:
    """Two texts whose lengths differ from any before: nothing of it is in the engine's cache."""
    one, other = ({"type": "string", "maxLength": most} for most in (200, 64))
    return schema({"a": one, "b": other, f"k{number}": {"type": "integer"}})


def properties(number: int) -> Body:
    """Objects with as many names as they may have."""
    names = {f"k{number}_{n}": True for n in range(125)}
    return schema({f"o{n}": {"type": "object", "properties": names} for n in range(8)})


def counted(number: int) -> Body:
    """An object whose properties, as many as there may be, are counted themselves."""
    names = {f"k{number}_{n}": {"type": "string"} for n in range(80)}
    return schema({"a": {"type": "object", "properties": names, "maxProperties": 60}})


def optional(number: int) -> Body:
    """Patterns of optional parts, as many as there may be."""
    found = [{"type": "string", "pattern": ".?" * 8 + f"{number}x{n}"} for n in range(32)]
    return schema({"a": {"anyOf": found}})


def patterns(number: int) -> Body:
    """Patterns that each text may match in many ways."""
    found = [{"type": "string", "pattern": f".*a.*b{number}x{n}"} for n in range(200)]
    return schema({"a": {"anyOf": found}})


def alternatives(number: int) -> Body:
    """Nested alternatives, as many as there may be."""
    found: Body = {"type": "string"}
    for depth in range(8):
        others = [schema_of({f"p{number}_{depth}_{n}": {"type": "integer"}}) for n in range(40)]
        found = {"anyOf": [found, *others]}
    return schema({"a": found})


def signs(number: int) -> Body:
    """A regular expression with as many signs that repeat as there may be."""
    return {"structured_outputs": {"regex": "(a*b*c*)*" * 7 + f"x{number}"}}


def schema_of(names: Body) -> Body:
    return {"type": "object", "properties": names, "required": list(names)}


def schema(names: Body) -> Body:
    asked = {"name": "n", "schema": schema_of(names)}
    return {"response_format": {"type": "json_schema", "json_schema": asked}}


WORST: list[Callable[[int], Body]] = [
    lengths, properties, counted, patterns, optional, alternatives, signs,
]  # fmt: skip


def ask(client: openai.OpenAI, most: int, more: Body) -> float:
    """Return how long a chat takes."""
    began = time.monotonic()
    client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=most, extra_body=more
    )
    return time.monotonic() - began


def beside(client: openai.OpenAI, make: Callable[[int], Body]) -> float:
    """Return how long others' chats take, by their median, while one goes on asking with such bodies."""
    over = threading.Event()
    faults: list[BaseException] = []

    def go_on() -> None:
        try:
            for number in range(ASKED * 4):
                if over.is_set():
                    return
                ask(client, 20, make(number))
        except openai.OpenAIError as error:
            faults.append(error)

    other = threading.Thread(target=go_on)
    other.start()
    try:
        took = [ask(client, 5, {}) for _ in range(ASKED)]
    finally:
        over.set()
        other.join(300)
    assert not faults, f"it is within the bounds: {faults[0]}"
    return median(took)


def plainly(client: openai.OpenAI) -> float:
    """Return how long others' chats take while one goes on asking without a schema."""
    return beside(client, lambda _: {})


@pytest.fixture(scope="module")
def plain(client: openai.OpenAI) -> float:
    """How long others' chats take beside one who asks as often for as much, without a schema."""
    return plainly(client)


@pytest.mark.parametrize("worst", WORST)
def test_the_worst_body_allowed_delays_others_by_a_second_at_most(
    client: openai.OpenAI, plain: float, worst: Callable[[int], Body]
) -> None:
    """Where it seems to delay them by more, the machine may have become busy: both are looked at again."""
    if beside(client, worst) - plain > MOST_SECONDS:
        assert beside(client, worst) - plainly(client) <= MOST_SECONDS


def test_what_is_beyond_is_refused_before_it_reaches_the_engine(client: openai.OpenAI) -> None:
    deep: Body = {"type": "string"}
    for _ in range(20):
        deep = {"anyOf": [deep]}
    for more in (schema({"a": deep}), {"structured_outputs": {"regex": "(a?b?)?" * 20}}, {"n": 128}):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(client, 5, more)
        assert refused.value.code == "invalid_request"
        assert refused.value.param
