"""The JSON schemas of the API's bodies, by capability: tables for `sluice.proxy.api.openapi`.

A request's schema is strict about the fields that this service checks and open for all others, which only the
engine checks and which differ from model to model. Answers may have more fields.
"""

from __future__ import annotations

from typing import Any

from sluice.bodies.positions import KINDS
from sluice.contracts.paths import CAPABILITIES, SENSES
from sluice.contracts.values import MODEL_NAME, REQUEST_ID, STATUSES
from sluice.errors import CODES
from sluice.proxy.api.spellings import other_spellings
from sluice.proxy.bodies.fields import ALL_OUTPUT_NAMES, LEAST_COPIES, MOST_COPIES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def ref(name: str) -> Schema:
    """Return a reference to a schema of COMPONENTS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, **({"minItems": least} if least else {})}


def _either(*types: str) -> Schema:
    return {"type": list(types)}


_BOUNDS: dict[str, Schema] = {
    **{name: {"minimum": least, "maximum": MOST_COPIES} for name, least in LEAST_COPIES.items()},
    **{name: {"minimum": 0} for name in ALL_OUTPUT_NAMES},
    "priority": {"minimum": 0},
    # On every path: Sluice connects to no other servers.
    "mcp_servers": {"maxItems": 0},
    "tools": {"items": {"not": {"type": "object", "required": ["server_url"]}}},
}
_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", list: "array", dict: "object"}


def _field(name: str, description: str, **bounds: Any) -> tuple[str, Schema]:
    """Return the schema of a request's field; its types are those that `sluice.bodies` accepts, or null.

    A field that Sluice does not check may have any value here; the engine decides.
    """
    schema: Schema = {"description": description, **_BOUNDS.get(name, {}), **bounds}
    kind = KINDS.get(name)
    if kind is not None:
        types = {_TYPES[one] for one in kind[0]} - ({"integer"} if float in kind[0] else set())
        schema["type"] = [*sorted(types), "null"]
    return name, schema


def _never(name: str, description: str) -> tuple[str, Schema]:
    """Return a flag that may not be set."""
    return name, {"enum": [False, None], "description": description}


def _nothing(name: str) -> tuple[str, Schema]:
    """Return a field that must be null because it would need stored data."""
    return name, {"type": "null", "description": "Nothing is stored."}


# Fields that are checked on every path are described on every path.
_ELSEWHERE = "Has no effect on this path, but must be well formed."

_STREAM = _field("stream", "Answer with server-sent events while the text is generated.", default=False)
_WHOLE = _never("stream", "This path does not stream.")
_SAMPLING = (
    _field("temperature", "Sampling temperature, from 0."),
    _field("top_p", "Nucleus sampling, from 0 to 1."),
)
_OPENAI_SAMPLING = (
    *_SAMPLING,
    _field("n", "How many answers."),
    _field("stop", "Text, or list of texts, at which the answer ends."),
    _field("seed", "With the same seed, equal requests usually get equal answers."),
    _field("frequency_penalty", "From -2 to 2."),
    _field("presence_penalty", "From -2 to 2."),
    _field("stream_options", '`{"include_usage": true}`: a last event with the tokens used.'),
)
_TOOL_CHOICE = _field("tool_choice", "Whether the model must call a tool, and which one.")
_TOOLS = (_field("tools", "The tools that the model may call."), _TOOL_CHOICE)
# For APIs with tools on other servers, to which Sluice does not connect.
_OWN_TOOLS = (
    _field("tools", "The tools that the model may call. Tools on a server are not allowed."),
    _TOOL_CHOICE,
    _field("mcp_servers", "Sluice connects to no other servers."),
)
_MAX_TOKENS = _field("max_tokens", "The longest answer, in tokens.")
_MESSAGES = ("messages", _list(ref("ChatMessage"), 1))
# The rest of a part is left to the engine.
_PART: Schema = {"properties": {"uuid": {"type": "null"}}}
_PARTS: Schema = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}]}
_ITEMS: Schema = {"anyOf": [TEXT, _list(ref("ResponseItem"), 1)]}
_KEPT = (
    _never("store", "Nothing is stored, also without this field."),
    _never("background", "Answers are not kept: wait for the answer, or use a stream."),
    *map(_nothing, ("previous_response_id", "conversation", "prompt")),
)
_FULL: Schema = {"type": "object", "minProperties": 1}


def _request(required: tuple[str, ...], *fields: tuple[str, Schema]) -> Schema:
    """Return the schema of a body with the required fields `model` and `required`."""
    listed = dict(fields)
    others = (_field(name, _ELSEWHERE) for name in KINDS if name not in listed)
    schema = _object(("model", *required), model=ref("ModelName"), **listed, **dict(others))
    return {**schema, "propertyNames": ref("FieldName")}


REQUESTS: dict[str, Schema] = {
    "chat": _request(
        ("messages",),
        _STREAM,
        _MESSAGES,
        _field("max_completion_tokens", "The longest answer, in tokens."),
        _field("max_tokens", "The same, by its older name."),
        *_OPENAI_SAMPLING,
        *_TOOLS,
        _field("parallel_tool_calls", "Whether the model may call several tools in one answer."),
        _field("response_format", "`json_object`, or `json_schema` with a schema for the answer."),
        _field("logprobs", "Whether to return the tokens' log probabilities."),
        _field("top_logprobs", "How many alternatives at each place."),
    ),
    "completions": _request(
        ("prompt",),
        _STREAM,
        ("prompt", {**_PARTS, "description": "A text, or a list of texts or tokens."}),
        _MAX_TOKENS,
        *_OPENAI_SAMPLING,
        _field("best_of", "Generate this many answers and return the best `n`."),
        _field("logprobs", "How many alternatives' log probabilities to return."),
        _field("echo", "Whether the answer begins with the prompt."),
        _field("suffix", "The text after the gap to fill."),
    ),
    "responses": _request(
        ("input",),
        _STREAM,
        ("input", _ITEMS),
        _field("instructions", "A system prompt."),
        _field("max_output_tokens", "The longest answer, in tokens."),
        *_SAMPLING,
        *_OWN_TOOLS,
        _field("text", "The form of the answer, a JSON schema for example."),
        *_KEPT,
    ),
    "embeddings": _request(
        ("input",),
        _WHOLE,
        ("input", {**_PARTS, "description": "A text, or a list of texts or tokens."}),
        _field("encoding_format", "`float` or `base64`."),
        _field("dimensions", "The length of the vectors, if the model supports several."),
    ),
    "rerank": _request(
        ("query", "documents"),
        _WHOLE,
        (
            "query",
            {
                "anyOf": [*_PARTS["anyOf"], _FULL],
                "description": ("The text with which documents are compared."),
            },
        ),
        ("documents", {"anyOf": [_list({}, 1), _FULL], "description": "Texts, or objects with a `text`."}),
        _field("top_n", "How many results, the best first."),
    ),
    "messages": _request(
        ("messages", "max_tokens"),
        _STREAM,
        _MESSAGES,
        ("max_tokens", {"type": "integer", "minimum": 0, "description": "The longest answer, in tokens."}),
        _field("system", "A system prompt: a text, or a list of text blocks."),
        _field("stop_sequences", "Texts at which the answer ends."),
        *_SAMPLING,
        _field("top_k", "Sample only from this many tokens."),
        *_OWN_TOOLS,
    ),
    "count_tokens": _request(
        ("messages",),
        _WHOLE,
        _MESSAGES,
        _field("system", "A system prompt: a text, or a list of text blocks."),
        *_OWN_TOOLS,
    ),
    "input_tokens": _request(
        ("input",),
        _WHOLE,
        ("input", _ITEMS),
        _field("instructions", "A system prompt."),
        *_OWN_TOOLS,
        _field("text", "The form of the answer, a JSON schema for example."),
        *_KEPT,
    ),
    "tokenize": {
        **_request(
            (),
            _WHOLE,
            ("prompt", {"type": ["string", "null"], "description": "A text, instead of `messages`."}),
            ("messages", {"anyOf": [_MESSAGES[1], {"type": "null"}], "description": "A conversation."}),
            _field("add_special_tokens", "Whether to include the tokens that begin a text."),
            _field("add_generation_prompt", "Whether to count the tokens that begin an answer."),
            _field("return_token_strs", "Whether to return the tokens as texts too."),
            *_TOOLS,
        ),
        "anyOf": [
            {"required": ["prompt"], "properties": {"prompt": TEXT}},
            {"required": ["messages"], "properties": {"messages": _MESSAGES[1], "prompt": {"type": "null"}}},
        ],
    },
}

_CHOICES: Schema = {"type": "array", "items": {"type": "object"}}
_OPENAI_ANSWER = {"id": TEXT, "created": {"type": "integer"}, "model": TEXT, "choices": _CHOICES}

ANSWERS: dict[str, Schema] = {
    "chat": _object(
        ("id", "object", "created", "model", "choices"),
        object={"const": "chat.completion"},
        **_OPENAI_ANSWER,
        usage=ref("Usage"),
    ),
    "completions": _object(
        ("id", "object", "created", "model", "choices"),
        object={"const": "text_completion"},
        **_OPENAI_ANSWER,
        usage=ref("Usage"),
    ),
    "responses": _object(
        ("id", "object", "created_at", "model", "status", "output"),
        id=TEXT,
        object={"const": "response"},
        created_at={"type": "number"},
        model=TEXT,
        status=TEXT,
        output=_list({"type": "object"}),
        usage=_either("object", "null"),
    ),
    "embeddings": _object(
        ("object", "data", "model"),
        object={"const": "list"},
        data=_list(
            _object(
                ("object", "index", "embedding"),
                object={"const": "embedding"},
                index=COUNT,
                embedding={"anyOf": [_list({"type": "number"}), TEXT]},
            )
        ),
        model=TEXT,
        usage=ref("Usage"),
    ),
    "rerank": _object(
        ("id", "model", "results"),
        id=TEXT,
        model=TEXT,
        results=_list(
            _object(
                ("index", "relevance_score"),
                index=COUNT,
                relevance_score={"type": "number"},
                document={"type": "object"},
            )
        ),
    ),
    "messages": _object(
        ("id", "type", "role", "content", "model"),
        id=TEXT,
        type={"const": "message"},
        role={"const": "assistant"},
        content=_list({"type": "object"}),
        model=TEXT,
        stop_reason=_either("string", "null"),
        usage=_either("object", "null"),
    ),
    "count_tokens": _object(("input_tokens",), input_tokens=COUNT),
    "input_tokens": _object(
        ("object", "input_tokens"), object={"const": "response.input_tokens"}, input_tokens=COUNT
    ),
    "tokenize": _object(
        ("count", "max_model_len", "tokens"),
        count=COUNT,
        max_model_len=COUNT,
        tokens=_list(COUNT),
        token_strs={"type": ["array", "null"], "items": TEXT},
    ),
}

# The events of each path's stream, and how it ends; paths that are missing here do not stream.
STREAMS: dict[str, str] = {
    "chat": "Events `chat.completion.chunk`; the last is `data: [DONE]`.",
    "completions": "Events `text_completion`; the last is `data: [DONE]`.",
    "responses": "Named events, from `response.created` to `response.completed`.",
    "messages": "Named events, from `message_start` to `message_stop`.",
}

_ERROR = _object(
    ("message", "type", "param", "code", "request_id"),
    message={"type": "string", "description": "For people: what is wrong, where, what to do."},
    type=TEXT,
    param={"type": ["string", "null"], "description": "The path of the wrong field."},
    code={"type": "string", "enum": list(CODES)},
    request_id=ref("RequestId"),
    retry_after={"type": "integer", "description": "Only in streams: seconds to wait, if waiting helps."},
)

COMPONENTS: dict[str, Schema] = {
    "ModelName": {
        "type": "string",
        "pattern": f"^{MODEL_NAME.pattern}$",
        "description": "The `id` of a model that GET /v1/models lists.",
    },
    "FieldName": {
        "not": {"pattern": other_spellings()},
        "description": "Any name. A name that this service reads must not appear in another case.",
    },
    "RequestId": {
        "type": "string",
        "pattern": f"^{REQUEST_ID.pattern}$",
        "description": "The request's id, in every log line of gateway and cluster.",
    },
    "Model": _object(
        (
            *("id", "object", "created", "owned_by", "status", "ready", "starting", "expected_ready"),
            *("context_length", "max_model_len", "capabilities", "description"),
        ),
        id=ref("ModelName"),
        object={"const": "model"},
        created={
            **COUNT,
            "description": ("When its cluster first had the model: seconds since 1970, 0 if unknown."),
        },
        owned_by=TEXT,
        status={
            "type": "string",
            "enum": [*STATUSES, "stopped"],
            "description": (
                "`ready`: answers now. `starting`, `sleeping`: a request waits until an instance is "
                "ready; the request starts one. `failed`, `drained`, `stopped`: answers no requests now."
            ),
        },
        ready={**COUNT, "description": "Ready instances."},
        starting={**COUNT, "description": "Starting instances."},
        expected_ready={
            "type": ["number", "null"],
            "description": "When the next instance should be ready: seconds since 1970, null if unknown.",
        },
        context_length={**COUNT, "description": "Tokens of input and output together."},
        max_model_len={**COUNT, "description": "The same, by vLLM's name."},
        capabilities=_list({"type": "string", "enum": [*CAPABILITIES, *SENSES]}),
        description=TEXT,
    ),
    "ModelList": _object(("object", "data"), object={"const": "list"}, data=_list(ref("Model"))),
    "ChatMessage": _object(
        ("role",),
        role=TEXT,
        content={
            "type": ["string", "array", "null"],
            "items": _PART,
            "description": "A text, or a list of parts. Media must be `data:` URLs, without a `uuid`.",
        },
    ),
    "ResponseItem": {
        **_object(
            (),
            type={"not": {"const": "item_reference"}},
            role=_either("string", "null"),
            content={**_either("string", "array", "null"), "items": _PART},
        ),
        "description": (
            "A message, or an item of another `type`, such as earlier output of a tool or of the model."
        ),
    },
    "Usage": {
        "type": ["object", "null"],
        "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    },
    "Error": _object(("error",), error=_ERROR),
    "MessagesError": _object(
        ("type", "error", "request_id"),
        type={"const": "error"},
        # `code` and `param` are in addition to Anthropic's own members.
        error=_object(
            ("type", "message", "code"),
            type=TEXT,
            message=_ERROR["properties"]["message"],
            code=_ERROR["properties"]["code"],
            param=_ERROR["properties"]["param"],
        ),
        request_id=ref("RequestId"),
    ),
}
