"""The API's description for programs, `GET /v1/openapi.json`, in OpenAPI 3.1.

It describes what this service guarantees, and leaves fields open that only the engine checks. Paths, codes
and statuses come from the tables that the program uses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from sluice.bodies.costs import DEFAULTS, WORDS, Bounds
from sluice.contracts.paths import PATHS
from sluice.contracts.values import MODEL_NAME
from sluice.errors import CODES
from sluice.proxy.api.causes import CAUSES
from sluice.proxy.api.schemas import ANSWERS, COMPONENTS, REQUESTS, STREAMS, Schema, ref
from sluice.version import RELEASE

OPENAPI_PATH = "/v1/openapi.json"
# It changes with the program, and with the clusters' bounds.
CACHED_SECONDS = 3600

_ANTHROPIC = ("messages", "count_tokens")
_LIMITED = ("requests", "tokens")

_SUMMARIES = {
    "chat": ("createChatCompletion", "Continue a conversation"),
    "completions": ("createCompletion", "Continue a text"),
    "responses": ("createResponse", "Answer, in the format of OpenAI's responses; nothing is stored"),
    "embeddings": ("createEmbedding", "Turn texts into vectors"),
    "rerank": ("rerank", "Sort documents by how well they fit a query"),
    "messages": ("createMessage", "Continue a conversation, in the format of Anthropic's messages"),
    "count_tokens": ("countMessageTokens", "Count the tokens of messages, in Anthropic's format"),
    "input_tokens": ("countResponseTokens", "Count the tokens of a response's input"),
    "tokenize": ("tokenize", "Turn a text, or messages, into tokens, in vLLM's format"),
}

_ABOUT = (
    "OpenAI's API, as far as it is listed here, for models that run on a cluster.\n\nA stream that waits "
    "for an instance begins with comment lines, `: queued position=3 expected=42s`;\nclients ignore "
    "them. A stream that breaks ends with one event that contains an error.\n\nFields that are not "
    "described here go to the engine unchanged.\n"
)


def _bounds(bounds: Bounds) -> str:
    lines = "\n".join(f"- {getattr(bounds, name)} {words}" for name, words in WORDS.items())
    return (
        f"\nSchemas, grammars, regular expressions, lists and tools of one request have at most:\n\n{lines}\n"
    )


@dataclass(frozen=True)
class Description:
    """The document as it is sent, and its ETag."""

    body: bytes
    tag: str


def describe(bounds: Bounds) -> Description:
    """Return the API's description; `bounds` are the clusters' bounds for what an engine compiles."""
    body = json.dumps(document(bounds), separators=(",", ":")).encode()
    return Description(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def document(bounds: Bounds = DEFAULTS) -> dict[str, Any]:
    """Return the description, ready for JSON."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": RELEASE, "description": _ABOUT + _bounds(bounds)},
        # Relative to the URL of the description: the same for any host name.
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"xApiKey": []}],
        "paths": {
            "/v1/models": {"get": _list_models()},
            "/v1/models/{model}": {"get": _show_model()},
            OPENAPI_PATH: {"get": _show_description()},
            **{path: {"post": _post(capability)} for path, capability in PATHS.items()},
        },
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: `Authorization: Bearer sk-sluice-…`.",
                },
                "xApiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "The same key, as Anthropic's clients send it.",
                },
            },
            "headers": _HEADERS,
            "responses": _shared_refusals(),
            "schemas": {**COMPONENTS, **_named(REQUESTS, "Request"), **_named(ANSWERS, "Answer")},
        },
    }


def _named(schemas: dict[str, Schema], ending: str) -> dict[str, Schema]:
    return {capability.title() + ending: schema for capability, schema in schemas.items()}


# --- operations ---------------------------------------------------------------------------------------------


def _list_models() -> dict[str, Any]:
    return {
        "operationId": "listModels",
        "summary": "The models that the key's user may use, with their state",
        "responses": {"200": _answer("The models", ref("ModelList")), **_errors("Any")},
    }


def _show_model() -> dict[str, Any]:
    name = {"type": "string", "pattern": f"^{MODEL_NAME.pattern}$"}
    return {
        "operationId": "retrieveModel",
        "summary": "One model with its state",
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": name}],
        "responses": {"200": _answer("The model", ref("Model")), **_errors("Model")},
    }


def _show_description() -> dict[str, Any]:
    found = _answer("This description", {"type": "object"})
    found["headers"] = {**found["headers"], "ETag": {"schema": {"type": "string"}}}
    return {
        "operationId": "describe",
        "summary": "This description",
        "security": [{}],
        "responses": {
            "200": found,
            "304": {"description": "It has not changed since the version in If-None-Match"},
            **{str(status): _refusal(status, codes) for status, codes in _by_status(_OF_ANY_REQUEST).items()},
        },
    }


def _post(capability: str) -> dict[str, Any]:
    operation, summary = _SUMMARIES[capability]
    name = capability.title()
    found = _answer("The answer", ref(f"{name}Answer"))
    found["headers"] = {**found["headers"], **_limit_headers()}
    if capability in STREAMS:
        found["content"]["text/event-stream"] = {"schema": _events(STREAMS[capability])}
    anthropic = capability in _ANTHROPIC
    return {
        "operationId": operation,
        "summary": summary,
        "description": f"For models with the capability `{capability}`.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref(f"{name}Request")}},
        },
        "responses": {
            "200": found,
            **_errors("Messages" if anthropic else "Body"),
            "4XX": _engine_refusal(anthropic=anthropic),
        },
    }


def _events(description: str) -> Schema:
    """Return the schema of a stream's events, as a parser of event streams returns them."""
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"event": text, "data": text},
        "description": description,
    }


# --- answers ------------------------------------------------------------------------------------------------

_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The request's id, in every log line of gateway and cluster",
        "required": True,
        "schema": ref("RequestId"),
    },
    "Retry-After": {
        "description": "Seconds to wait, if waiting helps",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}},
    "Allow": {"required": True, "schema": {"type": "string"}},
    **{
        f"x-ratelimit-{what}-{unit}": {
            "description": f"{text} {unit}, of the tightest limit, if a limit applies",
            "schema": schema,
        }
        for unit in _LIMITED
        for what, text, schema in (
            ("limit", "A minute's", {"type": "integer"}),
            ("remaining", "What is left of the minute's", {"type": "integer"}),
            ("reset", "When all are available again, such as `12s` or `1m30s`: of", {"type": "string"}),
        )
    },
}


def _header(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/headers/{name}"}


def _limit_headers() -> dict[str, Any]:
    return {name: _header(name) for name in _HEADERS if name.startswith("x-ratelimit-")}


def _answer(description: str, schema: Schema) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"X-Request-Id": _header("X-Request-Id")},
        "content": {"application/json": {"schema": schema}},
    }


# The sets of errors that operations share, by name: which values of `on` (causes.py) they include.
_REFUSALS = {
    "Any": ("any",),
    "Model": ("any", "model"),
    "Body": ("any", "model", "body"),
    "Messages": ("any", "model", "body"),
}


# The errors of a request that needs neither key nor cluster.
_OF_ANY_REQUEST = ("invalid_request", "rate_limited", "internal_error")
# Statuses with which engines refuse a request and this service does too.
_OF_ENGINES = (403, 404, 411, 413)


def _shared_refusals() -> dict[str, Any]:
    return {
        f"{name}{status}": _refusal(status, codes, anthropic=name == "Messages")
        for name in _REFUSALS
        for status, codes in _named_refusals(name).items()
    }


def _errors(name: str) -> dict[str, Any]:
    statuses = sorted(_named_refusals(name))
    return {str(status): {"$ref": f"#/components/responses/{name}{status}"} for status in statuses}


def _named_refusals(name: str) -> dict[int, list[str]]:
    found = _by_status(code for code in CODES if CAUSES[code].on in _REFUSALS[name])
    if "body" in _REFUSALS[name]:
        # An engine can refuse a body with these statuses too.
        for status in _OF_ENGINES:
            found[status].append("invalid_request")
    return found


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code in codes:
        found.setdefault(CODES[code], []).append(code)
    if "internal_error" in found.get(500, ()):
        # nginx answers 502 while the proxy does not run.
        found.setdefault(502, []).append("internal_error")
    return found


def _refusal(status: int, codes: list[str], *, anthropic: bool = False) -> dict[str, Any]:
    lines = "".join(f"\n- `{code}`: {CAUSES[code].cause} {CAUSES[code].remedy}" for code in codes)
    answer = _answer(f"{HTTPStatus(status).phrase}.\n{lines}", _error_schema(codes, anthropic))
    if status in (429, 503):
        answer["headers"]["Retry-After"] = _header("Retry-After")
    if status == 429:
        answer["headers"].update(_limit_headers())
    if status == 401:
        answer["headers"]["WWW-Authenticate"] = _header("WWW-Authenticate")
    return answer


def _error_schema(codes: list[str], anthropic: bool) -> Schema:
    code = {"properties": {"code": {"enum": codes}}}
    return {"allOf": [ref("MessagesError" if anthropic else "Error"), {"properties": {"error": code}}]}


def _engine_refusal(*, anthropic: bool) -> dict[str, Any]:
    return _answer(
        "A refusal by the engine: its message, with its status.",
        _error_schema(["invalid_request"], anthropic),
    )
