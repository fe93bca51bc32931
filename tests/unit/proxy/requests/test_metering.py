"""What usage the proxy asks engines for, and what clients see of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.proxy.bodies.body import BodySummary, summary_of, summary_of_scanned
from sluice.proxy.requests.metering import (
    LONGEST_LINE,
    MOST_ADDED,
    UsageFilter,
    WantedUsage,
    with_usage_options,
)
from sluice.proxy.requests.tokens import TokenCount, TokenMeter
from tests.trials import examples

NOTHING = WantedUsage(each=False, last=False)
LAST = WantedUsage(each=False, last=True)
# Only what an engine reports unasked.
UNASKED = WantedUsage(each=True, last=False)
ALL = WantedUsage(each=True, last=True)
DONE = b"data: [DONE]\n\n"
# Text of a model that looks like an engine's usage.
TRAPS = [
    "ab ",
    '","usage":{"prompt_tokens":9,"completion_tokens":9}}\n\n',
    '\\","usage":{"prompt_tokens":9}}',
    '"choices":[]',
    '"usage":',
    "data: [DONE]\n\n",
    'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
    "\r\n\r\n",
    "ü€😀",
]


def figures(output: int, prompt: int = 5) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}


def compact(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(text: str, usage: dict[str, Any] | None = None, index: int = 0) -> dict[str, Any]:
    """Return a chunk in vLLM's order, with the usage last."""
    choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    document = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return document if usage is None else {**document, "usage": usage}


def final(usage: dict[str, Any] | None) -> dict[str, Any]:
    document = {**chunk(""), "choices": []}
    return document if usage is None else {**document, "usage": usage}


def passed(
    data: list[bytes], wanted: WantedUsage, capability: str = "chat", copies: int = 1
) -> tuple[bytes, TokenCount]:
    meter = TokenMeter(capability, copies=copies)
    sieve = UsageFilter(meter, wanted)
    seen = b"".join(sieve.feed(one) for one in data) + sieve.rest()
    return seen, meter.count()


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


# --- what the client sees -----------------------------------------------------------------------------------


def test_a_client_that_asked_for_nothing_sees_the_stream_as_without() -> None:
    engine = [compact(chunk(word, figures(n + 1))) for n, word in enumerate(TRAPS)]
    engine += [compact(final(figures(len(TRAPS)))), DONE]
    without = b"".join(compact(chunk(word)) for word in TRAPS) + DONE
    assert passed(engine, NOTHING) == (without, TokenCount(5, len(TRAPS), measured=True))


def test_a_client_that_asked_for_the_end_alone_gets_it() -> None:
    engine = [compact(chunk(word, figures(n + 1))) for n, word in enumerate(TRAPS)]
    engine += [compact(final(figures(len(TRAPS)))), DONE]
    without = b"".join(compact(chunk(word)) for word in TRAPS) + compact(final(figures(len(TRAPS)))) + DONE
    assert passed(engine, LAST) == (without, TokenCount(5, len(TRAPS), measured=True))


def test_a_client_that_asked_for_all_gets_all() -> None:
    engine = [compact(chunk(word, figures(n + 1))) for n, word in enumerate(TRAPS)]
    assert passed(engine, ALL) == (b"".join(engine), TokenCount(5, len(TRAPS), measured=True))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_figures_are_taken_out_wherever_they_stand(
    separators: tuple[str, str], newline: bytes, place: int
) -> None:
    usage = {**figures(3), "prompt_tokens_details": {"cached_tokens": 2}, "note": 'a "}" and {'}
    members = [*chunk("ab").items()]
    document = dict([*members[:place], ("usage", usage), *members[place:]])
    engine, bare = (
        b"data: " + json.dumps(one, separators=separators).encode() + newline * 2
        for one in (document, chunk("ab"))
    )
    seen, count = passed([engine], NOTHING)
    assert seen == bare
    assert (count.input, count.output, count.measured) == (5, 3, True)


def test_what_an_engine_tells_unasked_stays() -> None:
    """As llama.cpp does at the end of completions; at the end of a chat it sends one more chunk."""
    usage = {**figures(3), "prompt_tokens_details": {"cached_tokens": 0}}
    choice = {"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}
    ended = compact(
        {"choices": [choice], "usage": usage, "id": "c", "timings": {"cache_n": 0, "prompt_ms": 30.6}}
    )
    last = compact({"choices": [], "id": "c", "usage": usage, "timings": {"cache_n": 30, "prompt_ms": 1.5}})
    assert passed([ended, DONE], UNASKED, "completions") == (ended + DONE, TokenCount(5, 3, measured=True))
    assert passed([compact(chunk("ab")), last, DONE], UNASKED) == (
        compact(chunk("ab")) + DONE,
        TokenCount(5, 3, measured=True),
    )


def test_members_of_members_are_left_alone() -> None:
    document = {**chunk("ab"), "extra": {"a": 1, "usage": figures(7)}}
    nested = {**chunk("ab"), "extra": {"a": 1, "usage": {"b": "{"}}}
    engine = compact(document) + compact(nested)
    assert passed([engine], NOTHING)[0] == engine


def test_an_empty_figure_is_taken_out_and_counts_for_nothing() -> None:
    seen, count = passed([compact({**chunk("ab"), "usage": None})], NOTHING)
    assert (seen, count) == (compact(chunk("ab")), TokenCount(0, 1, measured=False))


def test_a_line_too_long_to_be_looked_at_passes_as_it_is() -> None:
    long = compact(chunk("a" * LONGEST_LINE, figures(1)))
    short = compact(chunk("b", figures(2)))
    for pieces in ([long, short], cut(long + short, [70_000] * 4), cut(long + short, [LONGEST_LINE + 9])):
        assert passed(pieces, NOTHING)[0] == long + compact(chunk("b"))


def test_what_is_not_json_passes_as_it_is() -> None:
    junk = b': queued\n\nevent: x\ndata: {"usage": broken\n\ndata: "usage":{}\n\ndata: {"usage":{"b":2}\n\n'
    assert passed([junk], NOTHING)[0] == junk


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
@pytest.mark.parametrize("wanted", [NOTHING, LAST, ALL])
def test_a_stream_whose_lines_end_with_cr_alone_passes_whole_and_at_once(
    size: int, wanted: WantedUsage
) -> None:
    """Nothing is removed from it, whatever usage it has; with other line ends, usage is removed as always."""
    event = compact(chunk("ab", figures(1)))
    bare = b"".join(
        one[:-2] + b"\r\r" for one in (event, compact(chunk("cd")), compact(final(figures(2))), DONE)
    )
    meter = TokenMeter("chat")
    sieve = UsageFilter(meter, wanted)
    first = b"".join(sieve.feed(one) for one in cut(bare[: len(event) + 1], [size] * len(event)))
    assert first == event[:-2] + b"\r\r", "an event must wait only for the byte after it"
    pieces = cut(bare + b"\n" + event, [size] * (len(bare) // size))
    without = event if wanted is ALL else compact(chunk("ab"))
    assert passed(pieces, wanted)[0] == bare + b"\n" + without


USAGES = st.builds(figures, st.integers(0, 99))
DOCUMENTS = st.one_of(
    st.builds(chunk, st.one_of(st.sampled_from(TRAPS), st.text(max_size=20)), USAGES, st.integers(0, 2)),
    st.builds(final, st.one_of(st.none(), USAGES)),
    st.builds(chunk, st.sampled_from(TRAPS)),
)
EVENTS = st.one_of(
    DOCUMENTS.map(compact),
    DOCUMENTS.map(lambda one: b"data: " + json.dumps(one).encode() + b"\r\n\r\n"),
    DOCUMENTS.map(lambda one: b"data: " + json.dumps(one).encode() + b"\r\r"),
    st.sampled_from([DONE, b": queued position=1\n\n", b"event: x\ndata: {}\n\n", b"\n", b'data: "usage"\n']),
)


@examples(300)
@given(
    st.lists(EVENTS, max_size=8).map(b"".join),
    st.lists(st.integers(1, 90), max_size=40),
    st.sampled_from([NOTHING, LAST, UNASKED, ALL]),
)
def test_where_a_stream_is_cut_makes_no_difference(
    data: bytes, sizes: list[int], wanted: WantedUsage
) -> None:
    whole = passed([data], wanted)
    assert passed(cut(data, sizes), wanted) == whole
    assert passed([bytes([one]) for one in data], wanted) == whole
    if wanted is ALL:
        assert whole[0] == data


@examples(100)
@given(st.lists(st.one_of(st.sampled_from(TRAPS), st.text(max_size=20)), max_size=6))
def test_what_a_model_writes_is_never_touched(texts: list[str]) -> None:
    engine = b"".join(compact(chunk(text, figures(n + 1))) for n, text in enumerate(texts))
    assert passed([engine], NOTHING)[0] == b"".join(compact(chunk(text)) for text in texts)


# --- what is counted ----------------------------------------------------------------------------------------


def test_a_stream_is_exact_wherever_it_is_left() -> None:
    engine = [compact(chunk("", figures(0)))] + [compact(chunk("x", figures(2 * n + 1))) for n in range(50)]
    for left in range(1, len(engine)):
        assert passed(engine[:left], NOTHING)[1] == TokenCount(5, max(0, 2 * left - 3), measured=True)


def test_answers_to_one_prompt_add_up_and_count_its_tokens_once() -> None:
    engine = [
        compact(chunk("x", figures(output, 7), index)) for index, output in [(0, 1), (1, 1), (0, 2), (2, 4)]
    ]
    assert passed(engine, NOTHING, copies=3)[1] == TokenCount(7, 7, measured=True)


def test_prompts_sent_together_add_up() -> None:
    told = [(0, 1, 10), (1, 1, 10), (2, 3, 20), (3, 1, 20), (0, 5, 10)]
    engine = [compact(chunk("x", figures(output, prompt), index)) for index, output, prompt in told]
    assert passed(engine, NOTHING, "completions", copies=2)[1] == TokenCount(30, 10, measured=True)


# --- what the engine is asked -------------------------------------------------------------------------------

BODY = b' {"model":"m","stream":true,"messages":[{"role":"user","content":"?"}]}'
CONTINUOUS = b'"stream_options":{"include_usage":true,"continuous_usage_stats":true},'


def asked(raw: bytes, capability: str = "chat") -> BodySummary:
    return summary_of(raw, capability, Bounds())


def test_the_question_goes_right_behind_the_first_brace() -> None:
    found = with_usage_options([BODY], asked(BODY), "continuous", small=True)
    assert found == ([b" {" + CONTINUOUS + BODY[2:]], NOTHING)
    found = with_usage_options([BODY], asked(BODY), "final", small=True)
    assert found == ([b' {"stream_options":{"include_usage":true},' + BODY[2:]], UNASKED)
    assert len(CONTINUOUS) == MOST_ADDED


def test_the_brace_may_come_in_a_later_chunk() -> None:
    chunks: list[bytes | bytearray] = [b" \n", bytearray(b" {"), BODY[2:]]
    found = with_usage_options(chunks, asked(BODY), "continuous", small=False)
    assert found is not None
    assert b"".join(found[0]) == b" \n {" + CONTINUOUS + BODY[2:]


@pytest.mark.parametrize(
    ("raw", "usage", "capability"),
    [
        (BODY, "none", "chat"),
        (BODY.replace(b"true", b"false"), "continuous", "chat"),
        (b'{"model":"m","stream":true,"input":"?"}', "continuous", "responses"),
        (b'{"model":"m","input":"?"}', "continuous", "embeddings"),
    ],
)
def test_who_cannot_tell_is_not_asked(raw: bytes, usage: str, capability: str) -> None:
    assert with_usage_options([raw], asked(raw, capability), usage, small=True) is None


@pytest.mark.parametrize(
    ("options", "usage", "sent", "wanted"),
    [
        (
            {"include_usage": True},
            "continuous",
            {"include_usage": True, "continuous_usage_stats": True},
            LAST,
        ),
        ({"include_usage": False}, "final", {"include_usage": True}, UNASKED),
        (None, "final", {"include_usage": True}, UNASKED),
        ({}, "continuous", {"include_usage": True, "continuous_usage_stats": True}, NOTHING),
        (
            {"continuous_usage_stats": True, "x": 1},
            "continuous",
            {"continuous_usage_stats": True, "x": 1, "include_usage": True},
            NOTHING,
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_options_of_ones_own_are_asked_for_too(
    options: Any, usage: str, sent: dict[str, Any], wanted: WantedUsage, size: int
) -> None:
    document = {
        "model": "m",
        "messages": [{"role": "user", "content": "é" * size}],
        "stream_options": options,
    }
    raw = json.dumps({**document, "stream": True}).encode()
    small = size == 1
    found = with_usage_options([raw], asked(raw) if small else scan(raw), usage, small=small)
    assert found is not None
    assert json.loads(b"".join(found[0])) == {**document, "stream": True, "stream_options": sent}
    assert found[1] == wanted


def scan(raw: bytes) -> BodySummary:
    scanner = BodyScanner("chat")
    scanner.feed(raw)
    return summary_of_scanned(scanner, "chat")


def test_who_asks_for_all_is_left_alone() -> None:
    raw = BODY[:-1] + b',"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'
    assert with_usage_options([raw], asked(raw), "continuous", small=True) == ([raw], ALL)
    raw = BODY[:-1] + b',"stream_options":{"include_usage":true}}'
    assert with_usage_options([raw], asked(raw), "final", small=True) is None


def test_options_that_cannot_be_told_for_sure_in_a_large_body_stay() -> None:
    text = "a" * 70_000
    twice = {"model": "m", "stream": True, "stream_options": {}, "tools": [{"stream_options": {}}]}
    for document in (twice, {**twice, "pad": "b" * (1 << 20), "tools": []}):
        raw = json.dumps({**document, "messages": [{"role": "user", "content": text}]}).encode()
        assert with_usage_options([raw], scan(raw), "continuous", small=False) is None
    escaped = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]})
    raw = (escaped[:-1] + ',"stream\\u005foptions":{}}').encode()
    assert with_usage_options([raw], scan(raw), "continuous", small=False) is None
