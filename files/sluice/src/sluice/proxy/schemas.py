"""The JSON schemas of the API's bodies, by capability: tables for `sluice.proxy.openapi`.

A request's schema is strict about the fields that this service checks itself and open for all others: what
those may be is the engine's to say, and differs from model to model. Answers are open: fields are added.
"""

from __future__ import annotations

from typing import Any

from sluice.errors import CODES
from sluice.records import CAPABILITIES, MODEL_NAME, REQUEST_ID, STATUSES

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


def _any(description: str) -> Schema:
    """Return the schema of a field that only the engine checks."""
    return {"description": description}


_STREAM: Schema = {
    "type": ["boolean", "null"],
    "default": False,
    "description": "Answer with server-sent events as the text comes.",
}
_SAMPLING: dict[str, Schema] = {
    "temperature": _any("Sampling temperature, a number from 0."),
    "top_p": _any("Nucleus sampling, a number from 0 to 1."),
}
_OPENAI_SAMPLING: dict[str, Schema] = {
    **_SAMPLING,
    "n": _any("How many answers, a whole number from 1."),
    "stop": _any("Text, or list of texts, at which the answer ends."),
    "seed": _any("Whole number; with it equal requests tend to have equal answers."),
    "frequency_penalty": _any("Number from -2 to 2."),
    "presence_penalty": _any("Number from -2 to 2."),
    "stream_options": _any('`{"include_usage": true}`: a last event with the tokens used.'),
}
_TOOLS: dict[str, Schema] = {
    "tools": _any("List of the tools that the model may call."),
    "tool_choice": _any("Whether, and which, tool is to be called."),
}

# What every path of POST checks of a body: name → schema. The rest goes to the engine as it came.
_CHAT = {
    "messages": _list(ref("ChatMessage"), 1),
    "max_completion_tokens": _any("The longest answer, in tokens."),
    "max_tokens": _any("The same, by its older name."),
    **_OPENAI_SAMPLING,
    **_TOOLS,
    "parallel_tool_calls": _any("Whether several tools may be called at once."),
    "response_format": _any("`json_object`, or `json_schema` with a schema that the answer keeps."),
    "logprobs": _any("Whether to return the tokens' log probabilities."),
    "top_logprobs": _any("How many alternatives at each place."),
}
_PROMPT: Schema = {
    "description": "A text, or a list of texts or tokens.",
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}],
}
_INPUT: Schema = {**_PROMPT, "description": "A text, or a list that is not empty."}

REQUESTS: dict[str, Schema] = {
    "chat": _object(("model", "messages"), model=ref("ModelName"), stream=_STREAM, **_CHAT),
    "completions": _object(
        ("model", "prompt"),
        model=ref("ModelName"),
        stream=_STREAM,
        prompt=_PROMPT,
        max_tokens=_any("The longest answer, in tokens."),
        **_OPENAI_SAMPLING,
        logprobs=_any("How many alternatives' log probabilities to return."),
        echo=_any("Whether the answer begins with the prompt."),
        suffix=_any("What follows the text that is to be filled in."),
    ),
    "responses": _object(
        ("model", "input"),
        model=ref("ModelName"),
        stream=_STREAM,
        input=_INPUT,
        instructions=_any("A system prompt."),
        max_output_tokens=_any("The longest answer, in tokens."),
        **_SAMPLING,
        **_TOOLS,
        text=_any("The form of the answer, a JSON schema for example."),
        store={
            "type": ["boolean", "null"],
            "const": False,
            "description": "Nothing is stored here: only `false`, which is also meant where it is left out.",
        },
    ),
    "embeddings": _object(
        ("model", "input"),
        model=ref("ModelName"),
        input=_INPUT,
        encoding_format=_any("`float` or `base64`."),
        dimensions=_any("How long the vectors are to be, where the model has a choice."),
    ),
    "rerank": _object(
        ("model", "query", "documents"),
        model=ref("ModelName"),
        query=_any("What the documents are compared with: a text."),
        documents={"type": "array", "minItems": 1, "description": "Texts, or objects with a `text`."},
        top_n=_any("How many results, the best first."),
    ),
    "messages": _object(
        ("model", "messages", "max_tokens"),
        model=ref("ModelName"),
        stream=_STREAM,
        messages=_list(ref("ChatMessage"), 1),
        max_tokens=_any("The longest answer, in tokens."),
        system=_any("A system prompt: a text, or a list of text blocks."),
        stop_sequences=_any("Texts at which the answer ends."),
        **_SAMPLING,
        top_k=_any("Sample from so many tokens only."),
        **_TOOLS,
    ),
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
}

# How a stream of each path ends, and what its events are; a path that is not here has no streams.
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
    param={"type": ["string", "null"], "description": "The path of the field at fault."},
    code={"type": "string", "enum": list(CODES)},
    request_id=ref("RequestId"),
    retry_after={"type": "integer", "description": "In streams alone, where waiting helps: seconds."},
)

COMPONENTS: dict[str, Schema] = {
    "ModelName": {
        "type": "string",
        "pattern": f"^{MODEL_NAME.pattern}$",
        "description": "A model's `id`, as GET /v1/models lists it.",
    },
    "RequestId": {
        "type": "string",
        "pattern": f"^{REQUEST_ID.pattern}$",
        "description": "Names this request in every log line of gateway and cluster.",
    },
    "Model": _object(
        (
            *("id", "object", "created", "owned_by", "status", "ready", "starting", "expected_ready"),
            *("context_length", "capabilities", "description"),
        ),
        id=ref("ModelName"),
        object={"const": "model"},
        created={"type": "integer"},
        owned_by=TEXT,
        status={
            "type": "string",
            "enum": [*STATUSES, "stopped"],
            "description": "`ready`: answers now. `starting`, `sleeping`: a request is held until an "
            "instance is up, which asking for it brings about. `failed`, `drained`, `stopped`: it answers "
            "nothing now.",
        },
        ready={**COUNT, "description": "Instances that answer."},
        starting={**COUNT, "description": "Instances that are coming up."},
        expected_ready={
            "type": ["number", "null"],
            "description": "When the next instance should be ready: seconds since 1970, null if unknown.",
        },
        context_length={**COUNT, "description": "Tokens of input and output together."},
        capabilities=_list({"type": "string", "enum": list(CAPABILITIES)}),
        description=TEXT,
    ),
    "ModelList": _object(("object", "data"), object={"const": "list"}, data=_list(ref("Model"))),
    "ChatMessage": _object(
        ("role",),
        role=TEXT,
        content={
            "type": ["string", "array", "null"],
            "description": "A text, or a list of parts. Media in it are `data:` URLs.",
        },
    ),
    "Usage": {
        "type": ["object", "null"],
        "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    },
    "Error": _object(("error",), error=_ERROR),
    "MessagesError": _object(
        ("type", "error", "request_id"),
        type={"const": "error"},
        error=_object(("type", "message"), type=TEXT, message=TEXT),
        request_id=ref("RequestId"),
    ),
}
