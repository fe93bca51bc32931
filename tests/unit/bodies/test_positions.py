"""One rule for each position of a body: at every size, at the proxy and at the relay, however it is cut."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bodies.costs import Bounds
from sluice.bodies.positions import KINDS
from sluice.bodies.scan import BodyScanner
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError
from sluice.gate.body import COLLECTED
from sluice.proxy.bodies.body import INLINE_PARSE, summary_of, summary_of_scanned
from tests.trials import examples

URL = "http://169.254.169.254/"
DATA = "data:image/png;base64,iVBORw0KGgo="
REFUSED = "media_url_refused"
WRONG = "invalid_request"
SIZES = (0, INLINE_PARSE - 1, INLINE_PARSE, INLINE_PARSE + 1, 70_000, COLLECTED + 1, 1_000_000)

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
EMBEDDINGS, RERANK, MESSAGES = "/v1/embeddings", "/v1/rerank", "/v1/messages"
COUNT_TOKENS, INPUT_TOKENS, TOKENIZE = "/v1/messages/count_tokens", "/v1/responses/input_tokens", "/tokenize"
BASES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hello?"}]},
    COMPLETIONS: {"prompt": "Hello?"},
    RESPONSES: {"input": "Hello?"},
    EMBEDDINGS: {"input": "Hello?"},
    RERANK: {"query": "greeting", "documents": ["Hello?"]},
    MESSAGES: {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 5},
    COUNT_TOKENS: {"messages": [{"role": "user", "content": "Hello?"}]},
    INPUT_TOKENS: {"input": "Hello?"},
    TOKENIZE: {"messages": [{"role": "user", "content": "Hello?"}]},
}


def said(*parts: dict[str, Any], role: str = "user", **more: Any) -> list[dict[str, Any]]:
    """Return a conversation of one message with these parts."""
    return [{"role": role, "content": list(parts), **more}]


# A path, what its body has beside the required fields, the error code ("" for none), and the field it names.
TABLE: list[tuple[str, dict[str, Any], str, Optional[str]]] = [
    # Engines do not fetch these: arguments, citations, notes.
    (MESSAGES, {"messages": said({"type": "tool_use", "input": {"url": URL}})}, "", None),
    (MESSAGES, {"messages": said({"type": "tool_use", "input": {"a": [{"image_url": URL}]}})}, "", None),
    (MESSAGES, {"messages": said({"type": "text", "text": "x", "citations": [{"url": URL}]})}, "", None),
    (MESSAGES, {"messages": said({"type": "tool_result", "content":
      [{"type": "text", "citations": [{"url": URL}]}]})}, "", None),
    (MESSAGES, {"messages": said({"type": "text"}, metadata={"avatar_url": URL})}, "", None),
    (MESSAGES, {"metadata": {"avatar_url": URL}}, "", None),
    (MESSAGES, {"tools": [{"name": "get", "input_schema": {"properties": {"url": {"type": "string"}}}}]},
     "", None),
    (MESSAGES, {"tools": [{"name": "get", "input": {"url": URL}}]}, "", None),
    (CHAT, {"messages": [{"role": "assistant", "content": "x", "annotations":
      [{"type": "url_citation", "url_citation": {"url": URL}}]}]}, "", None),
    (CHAT, {"messages": [{"role": "assistant", "content": None, "tool_calls":
      [{"function": {"name": "get", "arguments": {"url": URL}}}]}]}, "", None),
    (CHAT, {"messages": said({"type": "text", "text": "x", "annotations": [{"url": URL}]})}, "", None),
    (CHAT, {"documents": [{"title": "x", "url": URL}]}, "", None),
    (CHAT, {"chat_template_kwargs": {"url": URL}}, "", None),
    (RESPONSES, {"input": said({"type": "output_text", "text": "x", "annotations":
      [{"type": "url_citation", "url": URL}]}, role="assistant")}, "", None),
    (RESPONSES, {"input": [{"type": "web_search_call", "action": {"type": "open_page", "url": URL}}]},
     "", None),
    (RESPONSES, {"input": [{"type": "function_call", "arguments": "{\"url\": \"http://x\"}"}]}, "", None),
    (CHAT, {"messages": said({"type": "image_url", "image_url": {"url": DATA}})}, "", None),
    (COMPLETIONS, {"prompt": URL}, "", None),
    # Engines would fetch these.
    (CHAT, {"messages": said({"type": "image_url", "image_url": {"url": URL}})}, REFUSED,
     "messages[].content[].image_url.url"),
    (CHAT, {"messages": said({"type": "image_url", "image_url": URL})}, REFUSED,
     "messages[].content[].image_url"),
    (CHAT, {"messages": said({"image_url": [[URL]]})}, REFUSED, "messages[].content[].image_url[][]"),
    (CHAT, {"messages": said({"audio_url": {"url": URL}})}, REFUSED, "messages[].content[].audio_url.url"),
    (CHAT, {"messages": said({"video_url": {"url": URL}})}, REFUSED, "messages[].content[].video_url.url"),
    (CHAT, {"messages": said({"Image_URL": URL})}, REFUSED, "messages[].content[].…"),
    (CHAT, {"messages": said({"input": {"url": URL}})}, REFUSED, "messages[].content[].input.url"),
    (CHAT, {"messages": said({"file": {"file_url": "file:///etc/passwd"}})}, REFUSED,
     "messages[].content[].file.file_url"),
    (CHAT, {"messages": [{"role": "user", "content": "x", "anything": {"deep": [{"a_uri": URL}]}}]}, REFUSED,
     "messages[].….…[].…"),
    (MESSAGES, {"messages": said({"type": "image", "source": {"type": "url", "url": URL}})}, REFUSED,
     "messages[].content[].source.url"),
    (MESSAGES, {"messages": said({"type": "document", "source": {"type": "url", "url": URL}})}, REFUSED,
     "messages[].content[].source.url"),
    (MESSAGES, {"messages": said({"type": "tool_result", "content":
      [{"type": "image", "source": {"url": URL}}]})}, REFUSED, "messages[].content[].content[].source.url"),
    (MESSAGES, {"messages": said({"type": "tool_use", "Input": {"url": URL}})}, REFUSED,
     "messages[].content[].….url"),
    (MESSAGES, {"system": [{"type": "image", "source": {"url": URL}}]}, REFUSED, "system[].source.url"),
    (RESPONSES, {"input": said({"type": "input_image", "image_url": URL})}, REFUSED,
     "input[].content[].image_url"),
    (RESPONSES, {"input": said({"type": "input_file", "file_url": URL})}, REFUSED,
     "input[].content[].file_url"),
    (RESPONSES, {"input": [{"type": "function_call_output", "output": [{"image_url": URL}]}]}, REFUSED,
     "input[].output[].image_url"),
    (RESPONSES, {"input": [{"type": "computer_call_output", "output": {"image_url": URL}}]}, REFUSED,
     "input[].output.image_url"),
    (EMBEDDINGS, {"input": None, "messages": said({"image_url": {"url": URL}})}, REFUSED,
     "messages[].content[].image_url.url"),
    (EMBEDDINGS, {"input": [{"url": URL}]}, REFUSED, "input[].url"),
    (RERANK, {"documents": [{"content": [{"image_url": {"url": URL}}]}]}, REFUSED,
     "documents[].content[].image_url.url"),
    (RERANK, {"query": {"content": [{"video_url": URL}]}}, REFUSED, "query.content[].video_url"),
    (COMPLETIONS, {"prompt": [{"image_url": URL}]}, REFUSED, "prompt[].image_url"),
    # With these names, an engine finds media of another user in its cache.
    (CHAT, {"messages": said({"type": "image_url", "image_url": {"url": DATA}, "uuid": "scan-1"})}, WRONG,
     "messages[].content[].uuid"),
    (CHAT, {"messages": said({"type": "image_url", "image_url": None, "uuid": "scan-1"})}, WRONG,
     "messages[].content[].uuid"),
    *((CHAT, {"messages": said({name: None, "uuid": uuid})}, WRONG, "messages[].content[].uuid")
      for name in ("image_pil", "image_embeds", "audio_url", "input_audio", "audio_embeds", "video_url",
                   "video_embeds")
      for uuid in ("scan-1", "", 7, True, ["x"], {"x": 1})),
    (CHAT, {"messages": [{"role": "user", "content": {"image_url": None, "uuid": "scan-1"}}]}, WRONG,
     "messages[].content"),
    (RESPONSES, {"input": said({"type": "input_image", "uuid": "scan-1"})}, WRONG, "input[].content[].uuid"),
    (INPUT_TOKENS, {"input": said({"type": "input_image", "uuid": "x"})}, WRONG, "input[].content[].uuid"),
    (MESSAGES, {"messages": said({"type": "image", "uuid": "x"})}, WRONG, "messages[].content[].uuid"),
    (COUNT_TOKENS, {"messages": said({"type": "image", "uuid": "x"})}, WRONG, "messages[].content[].uuid"),
    (EMBEDDINGS, {"input": None, "messages": said({"image_url": None, "uuid": "x"})}, WRONG,
     "messages[].content[].uuid"),
    (TOKENIZE, {"prompt": None, "messages": said({"image_url": None, "uuid": "x"})}, WRONG,
     "messages[].content[].uuid"),
    (RERANK, {"documents": [{"content": [{"image_url": None, "uuid": "x"}]}]}, WRONG,
     "documents[].content[].uuid"),
    (RERANK, {"documents": {"content": [{"image_url": None, "uuid": "x"}]}}, WRONG,
     "documents.content[].uuid"),
    (RERANK, {"query": {"content": [{"video_url": None, "uuid": "x"}]}}, WRONG, "query.content[].uuid"),
    # Elsewhere the name has no such meaning, and null is no name.
    (CHAT, {"messages": said({"type": "image_url", "image_url": {"url": DATA}, "uuid": None})}, "", None),
    (CHAT, {"messages": [{"role": "user", "content": "x", "uuid": "x"}], "metadata": {"uuid": "x"}}, "",
     None),
    (CHAT, {"messages": [{"role": "assistant", "content": None, "tool_calls":
      [{"function": {"name": "get", "arguments": {"uuid": "x"}}}]}]}, "", None),
    (MESSAGES, {"messages": said({"type": "tool_use", "input": {"uuid": "x"}})}, "", None),
    (RERANK, {"documents": [{"text": "x", "uuid": "x"}]}, "", None),
    # Other servers.
    (RESPONSES, {"tools": [{"type": "mcp", "server_url": URL}]}, WRONG, "tools[].server_url"),
    (MESSAGES, {"tools": [{"type": "mcp", "server_url": URL}]}, WRONG, "tools[].server_url"),
    (CHAT, {"tools": [{"type": "mcp", "server_url": None}]}, WRONG, "tools[].server_url"),
    (MESSAGES, {"mcp_servers": [{"type": "url", "url": URL}]}, WRONG, "mcp_servers"),
    (RESPONSES, {"mcp_servers": ["x"]}, WRONG, "mcp_servers"),
    (MESSAGES, {"mcp_servers": []}, "", None),
    # Kinds.
    (CHAT, {"temperature": "0.5"}, WRONG, "temperature"),
    (CHAT, {"max_tokens": 2.5}, WRONG, "max_tokens"),
    # An engine that uses it puts a request with a low number before those of all others.
    *((path, {"priority": number}, WRONG, "priority") for path in BASES for number in (-1, -(2**63), "-1")),
    *((CHAT, {"priority": number}, "", None) for number in (0, None, 2**62)),
    (CHAT, {"max_tokens": 2.0, "n": None, "stop": ["x"], "tool_choice": "auto"}, "", None),
    (CHAT, {"stream_options": {"include_usage": "true"}, "stream": True}, WRONG,
     "stream_options.include_usage"),
    (CHAT, {"stream_options": {"include_usage": True, "x": "true"}, "stream": True}, "", None),
    (CHAT, {"messages": [{"role": 5, "content": "x"}]}, WRONG, "messages[].role"),
    (CHAT, {"messages": [{"role": "user", "content": {"a": 1}}]}, WRONG, "messages[].content"),
    (CHAT, {"messages": ["x"]}, WRONG, "messages[]"),
    (CHAT, {"messages": [5]}, WRONG, "messages[]"),
    (CHAT, {"messages": "x"}, WRONG, "messages"),
    (CHAT, {"messages": []}, WRONG, "messages"),
    (COMPLETIONS, {"best_of": 0}, "", None),
    (COMPLETIONS, {"best_of": -1}, WRONG, "best_of"),
    (COMPLETIONS, {"n": 0}, WRONG, "n"),
    (COMPLETIONS, {"prompt": ""}, WRONG, "prompt"),
    (RESPONSES, {"input": ""}, "", None),
    (RESPONSES, {"input": []}, WRONG, "input"),
    (RESPONSES, {"prompt": None}, "", None),
    (RESPONSES, {"prompt": {"id": "x"}}, WRONG, "prompt"),
    (RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}, WRONG, "input[].type"),
    (EMBEDDINGS, {"input": 5}, WRONG, "input"),
    (RERANK, {"documents": {}}, WRONG, "documents"),
    *((CHAT, {name: (None,)}, WRONG, name) for name, kind in KINDS.items() if list not in kind[0]),
]  # fmt: skip


def written(path: str, more: dict[str, Any], size: int) -> bytes:
    """Return the bytes of a body, padded to at least this size, before and after the part that matters."""
    body = {"pad": "x" * (size // 2), "model": "smol", **BASES[path], **more, "end": ""}
    raw = json.dumps(body)
    lacking = max(0, size - len(raw))
    return (raw[:-2] + "y" * lacking + '"}').encode()


def at_proxy(path: str, raw: bytes) -> tuple[str, Optional[str]]:
    """Return the code and the field with which the proxy refuses a body of this size."""
    try:
        if len(raw) <= INLINE_PARSE:
            summary_of(raw, PATHS[path], Bounds())
        else:
            summary_of_scanned(fed(path, raw, 65_536), PATHS[path])
    except SluiceError as error:
        return error.code, error.param
    return "", None


def fed(path: str, raw: bytes, step: int) -> BodyScanner:
    """Return a scanner that has read the body as the relay reads it, in pieces of this size."""
    scanner = BodyScanner(PATHS[path])
    for start in range(0, len(raw), step):
        scanner.feed(raw[start : start + step])
    scanner.finish()
    return scanner


def at_relay(path: str, raw: bytes, step: int) -> tuple[str, Optional[str]]:
    try:
        fed(path, raw, step)
    except SluiceError as error:
        return error.code, error.param
    return "", None


# Only the proxy checks these: how many answers a body asks for, and what it stores.
OF_THE_PROXY = ("best_of", "n", "prompt")


@pytest.mark.parametrize(("path", "more", "code", "param"), TABLE)
def test_a_body_has_one_verdict_at_every_size_at_proxy_and_relay(
    path: str, more: dict[str, Any], code: str, param: Optional[str]
) -> None:
    for size in SIZES:
        raw = written(path, more, size)
        assert len(raw) == size or size < 1000
        assert at_proxy(path, raw) == (code, param)
        if param in OF_THE_PROXY and path != EMBEDDINGS and more != {"prompt": ""}:
            continue
        for step in (16_384, 1021):
            assert at_relay(path, raw, step) == (code, param)
    for step in (1, 2, 7):
        assert at_relay(path, written(path, more, 0), step) == at_relay(path, written(path, more, 0), 9999)


@pytest.mark.parametrize(("path", "more", "code", "param"), [row for row in TABLE if row[2] == REFUSED])
def test_an_address_is_refused_however_its_names_are_written(
    path: str, more: dict[str, Any], code: str, param: Optional[str]
) -> None:
    raw = written(path, more, 0).replace(b"_url", b"\\u005fur\\u006c").replace(b'"url"', b'"u\\u0072l"')
    assert at_proxy(path, raw)[0] == code
    assert at_relay(path, raw, 1)[0] == code


NAMES = st.sampled_from(["url", "image_url", "source", "input", "citations", "content", "x", "tool_calls"])
TREES = st.recursive(
    st.sampled_from([URL, DATA, "text", 5, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


@examples(200)
@given(st.sampled_from(sorted(PATHS)), TREES, st.integers(1, 40))
def test_whatever_parts_there_are_proxy_and_relay_agree(path: str, tree: Any, step: int) -> None:
    name = next(iter(BASES[path]))
    more = {name: [{"role": "user", "content": [tree]}]}
    small, large = written(path, more, 0), written(path, more, 70_000)
    verdict = at_relay(path, small, step)
    assert at_proxy(path, small) == at_proxy(path, large) == at_relay(path, large, 16_384) == verdict
