"""The required fields of each path's body, small and parsed or large and scanned, without a proxy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.contracts.paths import COUNTING, PATHS
from sluice.errors import SluiceError
from sluice.proxy.bodies.body import INLINE_PARSE, BodySummary, summary_of, summary_of_scanned

RESPONSES, EMBEDDINGS, RERANK, MESSAGES = "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/messages"
COUNT_TOKENS, INPUT_TOKENS, TOKENIZE = "/v1/messages/count_tokens", "/v1/responses/input_tokens", "/tokenize"
USER = [{"role": "user", "content": "Hello?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "smol", "messages": USER},
    "/v1/completions": {"model": "smol", "prompt": "Hello?"},
    RESPONSES: {"model": "smol", "input": "Hello?"},
    EMBEDDINGS: {"model": "smol", "input": ["Hello?", "Good day!"]},
    RERANK: {"model": "smol", "query": "greeting", "documents": ["Hello?", "Stop!"]},
    MESSAGES: {"model": "smol", "messages": USER, "max_tokens": 5},
    COUNT_TOKENS: {"model": "smol", "messages": USER},
    INPUT_TOKENS: {"model": "smol", "input": "Hello?"},
    TOKENIZE: {"model": "smol", "prompt": "Hello?"},
}
# The answers of these are complete at once, without generated text.
WHOLE_ANSWERS = {"embeddings", "rerank"} | COUNTING
LONE = b'{"model": "smol", "messages": [{"role": "user", "content": "\\ud83d"}], "max_tokens": 5}'


def small(path: str, body: dict[str, Any]) -> BodySummary:
    """Read a body as the proxy reads a small one."""
    return summary_of(json.dumps(body).encode(), PATHS[path], Bounds())


def large(path: str, body: dict[str, Any]) -> BodySummary:
    """Read a body as the proxy reads a large one."""
    return read(json.dumps({**body, "metadata": {"long": "x" * INLINE_PARSE}}).encode(), path)


def read(raw: bytes, path: str) -> BodySummary:
    """Read bytes as the proxy does, by their size."""
    if len(raw) <= INLINE_PARSE:
        return summary_of(raw, PATHS[path], Bounds())
    scanner = BodyScanner(PATHS[path])
    scanner.feed(raw)
    return summary_of_scanned(scanner, PATHS[path])


WRONG = [
    (RESPONSES, {"input": None}, "input"),
    (RESPONSES, {"input": []}, "input"),
    (RESPONSES, {"input": ["x"]}, "input[]"),
    (RESPONSES, {"input": [{"role": 5, "content": "x"}]}, "input[].role"),
    (RESPONSES, {"input": [{"role": "user", "content": 5}]}, "input[].content"),
    (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[].type"),
    (RESPONSES, {"store": True}, "store"),
    (RESPONSES, {"background": True}, "background"),
    (RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, {"conversation": {"id": "conv_1"}}, "conversation"),
    (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
    (RESPONSES, {"max_output_tokens": "9"}, "max_output_tokens"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_url": "http://x"}]}, "tools[].server_url"),
    (RESPONSES, {"instructions": ["x"]}, "instructions"),
    (EMBEDDINGS, {"input": ""}, "input"),
    (EMBEDDINGS, {"input": {"text": "x"}}, "input"),
    (EMBEDDINGS, {"stream": True}, "stream"),
    (EMBEDDINGS, {"dimensions": 1.5}, "dimensions"),
    (RERANK, {"query": None}, "query"),
    (RERANK, {"documents": []}, "documents"),
    (RERANK, {"documents": "x"}, "documents"),
    (RERANK, {"stream": True}, "stream"),
    (RERANK, {"top_n": True}, "top_n"),
    (MESSAGES, {"messages": []}, "messages"),
    (MESSAGES, {"messages": [{"role": "user", "content": {}}]}, "messages[].content"),
    (MESSAGES, {"max_tokens": None}, "max_tokens"),
    (MESSAGES, {"max_tokens": -1}, "max_tokens"),
    (MESSAGES, {"system": 5}, "system"),
    (MESSAGES, {"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
    (MESSAGES, {"stream": "yes"}, "stream"),
    (COUNT_TOKENS, {"messages": []}, "messages"),
    (COUNT_TOKENS, {"messages": [{"role": "user", "content": {}}]}, "messages[].content"),
    (COUNT_TOKENS, {"system": 5}, "system"),
    (COUNT_TOKENS, {"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
    (COUNT_TOKENS, {"stream": True}, "stream"),
    (INPUT_TOKENS, {"input": []}, "input"),
    (INPUT_TOKENS, {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[].type"),
    (INPUT_TOKENS, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (INPUT_TOKENS, {"conversation": {"id": "conv_1"}}, "conversation"),
    (INPUT_TOKENS, {"stream": True}, "stream"),
    (TOKENIZE, {"prompt": ["Hello?"]}, "prompt"),
    (TOKENIZE, {"prompt": [1, 2]}, "prompt"),
    (TOKENIZE, {"prompt": None, "messages": []}, "messages"),
    (TOKENIZE, {"stream": True}, "stream"),
    ("/v1/chat/completions", {"n": 0}, "n"),
    ("/v1/chat/completions", {"n": 129}, "n"),
    ("/v1/chat/completions", {"temperature": "hot"}, "temperature"),
    ("/v1/chat/completions", {"max_tokens": 5.5}, "max_tokens"),
    ("/v1/chat/completions", {"tools": {}}, "tools"),
    ("/v1/chat/completions", {"stop": 5}, "stop"),
    ("/v1/completions", {"best_of": "2"}, "best_of"),
]


@pytest.mark.parametrize(("path", "change", "param"), WRONG)
@pytest.mark.parametrize("reader", [small, large])
def test_a_field_that_is_wrong_is_named_at_every_size(
    reader: Any, path: str, change: dict[str, Any], param: str
) -> None:
    with pytest.raises(SluiceError) as caught:
        reader(path, {**BODIES[path], **change})
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)
    assert caught.value.message.startswith(f"`{param}` ")


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("reader", [small, large])
def test_what_a_path_needs_must_be_there(path: str, reader: Any) -> None:
    for name in BODIES[path]:
        with pytest.raises(SluiceError) as caught:
            reader(path, {key: value for key, value in BODIES[path].items() if key != name})
        assert (caught.value.code, caught.value.param) == ("invalid_request", name)


@pytest.mark.parametrize("path", sorted(PATHS))
def test_small_and_large_bodies_ask_for_the_same(path: str) -> None:
    said = {**BODIES[path], "stream": PATHS[path] not in WHOLE_ANSWERS, "n": 3}
    said |= dict.fromkeys(("max_tokens", "max_output_tokens"), 9)
    said |= {"stream_options": {"include_usage": True}} if said["stream"] else {}
    one, other = small(path, said), large(path, said)
    assert (one.model, one.stream, one.n, one.most_output) == (
        "smol",
        other.stream,
        other.n,
        0 if PATHS[path] in WHOLE_ANSWERS else 9,
    )
    assert (one.capability, one.has_options) == (other.capability, other.has_options)
    assert one.most_output == other.most_output
    assert (other.copies, other.places) == (one.copies, one.places)
    assert bool(one.prefix) == bool(other.prefix) == said["stream"]


@pytest.mark.parametrize(
    ("path", "change", "copies"),
    [
        ("/v1/chat/completions", {}, 1),
        ("/v1/chat/completions", {"n": 4}, 4),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "best_of": 5}, 10),
        ("/v1/completions", {"prompt": [1, 2, 3]}, 1),
        ("/v1/completions", {"prompt": [[1], [2]]}, 2),
        (EMBEDDINGS, {}, 2),
        (RERANK, {}, 2),
    ],
)
def test_answers_are_counted(path: str, change: dict[str, Any], copies: int) -> None:
    for reader in (small, large):
        assert reader(path, {**BODIES[path], **change}).copies == copies


@pytest.mark.parametrize(
    ("path", "said", "most"),
    [
        ("/v1/chat/completions", {}, None),
        ("/v1/chat/completions", {"max_tokens": 9}, 9),
        ("/v1/chat/completions", {"max_completion_tokens": 1, "max_tokens": 9}, 9),
        ("/v1/chat/completions", {"max_completion_tokens": 9, "max_tokens": 1}, 9),
        ("/v1/chat/completions", {"max_output_tokens": 1}, None),
        ("/v1/chat/completions", {"max_tokens": 0}, None),
        ("/v1/chat/completions", {"max_tokens": 9.0}, 9),
        ("/v1/completions", {"max_completion_tokens": 1}, None),
        ("/v1/completions", {"max_completion_tokens": 1, "max_tokens": 9}, 9),
        (RESPONSES, {"max_tokens": 1, "max_completion_tokens": 1}, None),
        (RESPONSES, {"max_tokens": 1, "max_output_tokens": 9}, 9),
        (MESSAGES, {"max_tokens": 9, "max_output_tokens": 1}, 9),
        (EMBEDDINGS, {"max_tokens": 9}, 0),
        (RERANK, {}, 0),
    ],
)
def test_a_name_that_the_paths_engine_does_not_read_bounds_nothing(
    path: str, said: dict[str, int], most: int | None
) -> None:
    for reader in (small, large):
        assert reader(path, {**BODIES[path], **said}).most_output == most


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image",
          "image_url": "http://x/"}]}]}, "input[].content[].image_url"),
        (RESPONSES, {"input": [{"type": "function_call_output", "output": [{"file_url": "file:///etc"}]}]},
         "input[].output[].file_url"),
        (EMBEDDINGS, {"input": None, "messages": [{"role": "user", "content": [{"image_url": "x"}]}]},
         "messages[].content[].image_url"),
        (RERANK, {"documents": [{"content": [{"image_url": {"url": "http://x/"}}]}]},
         "documents[].content[].image_url.url"),
        (RERANK, {"query": {"content": [{"image_url": {"url": "http://x/"}}]}},
         "query.content[].image_url.url"),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "image", "source":
          {"type": "url", "url": "http://x/"}}]}]}, "messages[].content[].source.url"),
        (MESSAGES, {"system": [{"type": "image", "source": {"url": "http://x/"}}]}, "system[].source.url"),
    ],
)  # fmt: skip
def test_media_by_address_is_refused_small_and_large(path: str, change: dict[str, Any], param: str) -> None:
    for reader in (small, large):
        with pytest.raises(SluiceError) as caught:
            reader(path, {**BODIES[path], **change})
        assert (caught.value.code, caught.value.param) == ("media_url_refused", param)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (LONE, "invalid_request", "`messages[0].content` has half of a surrogate pair"),
        (LONE.replace(b"5}", b'5, "\\udc00": 1}'), "invalid_request", "half of a surrogate pair"),
        (LONE.replace(b"5}", b'5, "x": "' + b"y" * 100_000 + b'"}'), "malformed_json", "surrogate pair"),
        (b'{"model": "smol", "model": "smol"}', "malformed_json", "a key twice"),
        (b'{"model": "smol", "a": {"b": 1, "b": 2}}', "malformed_json", "a key twice"),
        (b'{"model": "smol", "temperature": NaN}', "malformed_json", "NaN"),
        (b'{"model": "smol", "temperature": -Infinity}', "malformed_json", "-Infinity"),
        (b'{"model": "smol", "a": ' + b"[" * 3000 + b"]" * 3000 + b"}", "malformed_json", "nested"),
        (b'{"model": "smol", "messages": "\xff"}', "malformed_json", "UTF-8"),
        *(
            (
                b'{"model": "smol", "a": ' + b"[" * deep + b'"\\ud83d\\ude00"' + b"]" * deep + b"}",
                "malformed_json",
                "nested",
            )
            for deep in (64, 960, 1200)
        ),
    ],
)
def test_what_parsers_would_read_differently_is_refused_with_a_reason(
    body: bytes, code: str, words: str
) -> None:
    for path in sorted(PATHS):
        with pytest.raises(SluiceError) as caught:
            read(body, path)
        assert caught.value.code == code
        assert words in caught.value.message


def test_a_body_may_be_nested_as_deep_as_clusters_take_it() -> None:
    for deep, taken in ((62, True), (63, True), (64, False)):
        raw = b'{"model": "smol", "prompt": "x", "a": ' + b"[" * deep + b"]" * deep + b"}"
        scanner = BodyScanner("completions")
        if taken:
            scanner.feed(raw)
            assert scanner.finish() == read(raw, "/v1/completions").model
            continue
        for refuse in (scanner.feed, lambda raw: read(raw, "/v1/completions")):
            with pytest.raises(SluiceError, match="nested more than 64"):
                refuse(raw)


def test_whole_pairs_and_escaped_backslashes_are_no_halves() -> None:
    text = '"\\ud83d\\ude00 \\\\ud83d \\ud7ff"'
    body = f'{{"model": "smol", "messages": [{{"role": "user", "content": {text}}}]}}'.encode()
    assert read(body, "/v1/chat/completions").model == "smol"


def test_null_is_as_good_as_nothing() -> None:
    nulls = dict.fromkeys(("stream", "n", "max_tokens", "stop", "tools", "store", "temperature", "metadata"))
    assert small("/v1/chat/completions", {**BODIES["/v1/chat/completions"], **nulls}).most_output is None


@pytest.mark.parametrize("reader", [small, large])
@pytest.mark.parametrize("value", [40.0, 4e1])
def test_a_whole_number_may_be_written_with_a_point(reader: Any, value: float) -> None:
    asked = reader("/v1/chat/completions", {"model": "smol", "messages": USER, "max_tokens": value, "n": 2.0})
    assert (asked.most_output, asked.copies, asked.n) == (40, 2, 2)
    assert type(asked.most_output) is type(asked.copies) is int


@pytest.mark.parametrize("value", [40.5, float("1e999"), True])
def test_what_is_no_whole_number_is_none(value: Any) -> None:
    raw = json.dumps({"model": "smol", "messages": USER, "max_tokens": value}).replace("Infinity", "1e999")
    with pytest.raises(SluiceError) as refused:
        summary_of(raw.encode(), "chat", Bounds())
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize("path", ["/v1/chat/completions", RESPONSES, MESSAGES])
def test_each_limit_on_tokens_is_checked_not_the_first_alone(path: str) -> None:
    with pytest.raises(SluiceError) as refused:
        small(path, {**BODIES[path], "max_completion_tokens": 5, "max_output_tokens": -1})
    assert refused.value.param == "max_output_tokens"
