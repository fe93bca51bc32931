"""A body on its way: nothing of it is whole at an instance before all of it was found good."""

from __future__ import annotations

import pytest

from sluice.bodies.costs import DEFAULTS
from sluice.contracts.heads import RequestHead
from sluice.errors import SluiceError
from sluice.gate.body import COLLECTED, Body
from tests.fakes.proxy import number

LARGE = b'{"model": "tiny", "prompt": "' + b"x" * COLLECTED + b'"}'


def body(length: int) -> Body:
    return Body(RequestHead(number(1), "tiny", "POST", "/v1/completions", "u", "api", length), DEFAULTS)


def test_the_last_byte_leaves_when_the_whole_body_has_passed() -> None:
    large = body(len(LARGE))
    large.receive(LARGE[:1000])
    assert large.next() == LARGE[:1000]
    large.receive(LARGE[1000:])
    assert large.next() == LARGE[1000:-1]
    assert large.next() == b""
    assert large.finish() == "tiny"
    assert large.next() == b"", "the caller's own checks are still to come"
    large.complete = True
    assert large.next() == LARGE[-1:]


def test_a_body_that_turns_bad_never_becomes_whole() -> None:
    large = body(len(LARGE))
    large.receive(LARGE[:-1])
    assert large.next() == LARGE[:-1]
    with pytest.raises(SluiceError):
        large.receive(b"]")
    assert large.next() == b""
