"""The stub engine's answers on the paths other than chat and completions, in vLLM's formats."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VECTOR = (0.6, 0.8)
INPUT_TOKENS = 5


@dataclass(frozen=True)
class Question:
    """A request to the stub: its decoded body, and the words of the answer."""

    body: dict[str, Any]
    words: list[str]
    id: str

    @property
    def model(self) -> str:
        """The model's name, as the request gave it."""
        return str(self.body.get("model", ""))


def whole(path: str, asked: Question) -> dict[str, Any] | None:
    """Return the answer to a request without a stream; None if this module does not know the path."""
    made = {
        "/v1/responses": _response,
        "/v1/embeddings": _embeddings,
        "/v1/rerank": _ranking,
        "/v1/messages": _message,
        "/v1/messages/count_tokens": _counted,
        "/v1/responses/input_tokens": _counted_input,
        "/tokenize": _tokens,
    }.get(path)
    return None if made is None else made(asked)


def events(path: str, asked: Question) -> Iterator[bytes] | None:
    """Return a stream's events, with one for each word; None if the path has no streams."""
    made = {"/v1/responses": _response_events, "/v1/messages": _message_events}.get(path)
    return None if made is None else made(asked)


def _event(document: dict[str, Any]) -> bytes:
    return f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


# --- embeddings and rerank ----------------------------------------------------------------------------------


def _embeddings(asked: Question) -> dict[str, Any]:
    given = asked.body.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    vector: Any = list(VECTOR)
    if asked.body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    return {
        "id": f"embd-{asked.id}",
        "object": "list",
        "created": 0,
        "model": asked.model,
        "data": [{"object": "embedding", "index": at, "embedding": vector} for at in range(len(inputs))],
        "usage": {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS, "completion_tokens": 0},
    }


def _ranking(asked: Question) -> dict[str, Any]:
    given = asked.body.get("documents")
    documents = given if isinstance(given, list) else [given]
    results = [
        {"index": at, "document": {"text": str(one)}, "relevance_score": 1.0 / (1 + at)}
        for at, one in enumerate(documents)
    ]
    return {
        "id": f"rerank-{asked.id}",
        "model": asked.model,
        "usage": {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS},
        "results": results,
    }


# --- counting -----------------------------------------------------------------------------------------------


def _counted(asked: Question) -> dict[str, Any]:
    return {"input_tokens": INPUT_TOKENS}


def _counted_input(asked: Question) -> dict[str, Any]:
    """Answer as OpenAI's own API does: vLLM 0.32 has no such path."""
    return {"object": "response.input_tokens", "input_tokens": INPUT_TOKENS}


def _tokens(asked: Question) -> dict[str, Any]:
    told = {"count": INPUT_TOKENS, "max_model_len": 2048, "tokens": list(range(INPUT_TOKENS))}
    return {**told, "token_strs": None}


# --- responses ----------------------------------------------------------------------------------------------


def _response(asked: Question) -> dict[str, Any]:
    count = len(asked.words)
    return {
        **_response_envelope(asked, "completed"),
        "output": [_output(asked, "completed", "".join(asked.words))],
        "usage": {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": count,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + count,
        },
    }


def _response_envelope(asked: Question, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{asked.id}",
        "object": "response",
        "created_at": 0,
        "model": asked.model,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": None,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _output(asked: Question, status: str, text: str | None) -> dict[str, Any]:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": f"msg_{asked.id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _response_events(asked: Question) -> Iterator[bytes]:
    place = {"item_id": f"msg_{asked.id}", "output_index": 0, "content_index": 0}
    text = "".join(asked.words)
    empty = {"type": "output_text", "text": "", "annotations": []}
    documents: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response_envelope(asked, "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _output(asked, "in_progress", None),
        },
        {"type": "response.content_part.added", **place, "part": empty},
    ]
    documents += [
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in asked.words
    ]
    documents += [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**empty, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": _output(asked, "completed", text)},
        {"type": "response.completed", "response": _response(asked)},
    ]
    for number, document in enumerate(documents):
        yield _event({**document, "sequence_number": number})


# --- messages -----------------------------------------------------------------------------------------------


def _message(asked: Question) -> dict[str, Any]:
    return {
        "id": f"msg_{asked.id}",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "".join(asked.words)}],
        "model": asked.model,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": len(asked.words)},
    }


def _message_events(asked: Question) -> Iterator[bytes]:
    begun = {**_message(asked), "content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": INPUT_TOKENS, "output_tokens": 0}
    yield _event({"type": "message_start", "message": begun})
    yield _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for word in asked.words:
        delta = {"type": "text_delta", "text": word}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
    yield _event({"type": "content_block_stop", "index": 0})
    used = {"input_tokens": INPUT_TOKENS, "output_tokens": len(asked.words)}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": end, "usage": used})
    yield _event({"type": "message_stop"})
