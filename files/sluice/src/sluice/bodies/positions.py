"""What a request's body may contain, by position: the description with which proxy and relay check bodies.

A *position* is where a value is: the names above it, from the top of the body; lists do not count. Each path
of the API has its own description. What a position means:

- Below the names that reach an engine's readers of media, a value with a name like an address (`url`, `uri`,
  `…_url`, `…_uri`) must be a `data:` URL. This also applies to positions without a description.
- *Free* positions contain what a model or a client wrote and no engine fetches: arguments of tools,
  citations, annotations, metadata.
- Schemas, grammars and lists are counted, because an engine compiles them (`sluice.bodies.costs`).

Nothing here reads bytes: `sluice.bodies.scan` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Optional

from sluice.bodies.costs import Role
from sluice.bodies.jsontext import decode
from sluice.contracts.paths import CAPABILITIES, COUNTING
from sluice.contracts.values import MAX_COUNT

_WHOLE = frozenset((int,))
_NUMBER = frozenset((int, float))
_FLAG = frozenset((bool,))
_TEXT = frozenset((str,))
_LIST = frozenset((list,))
_OBJECT = frozenset((dict,))

Kind = tuple[frozenset[type], str]

# The kinds of fields that mean the same on every path. Null is like no value. The engine checks all others.
_WHOLE_NUMBERS = (
    "best_of",
    "dimensions",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "n",
    "priority",
    "seed",
    "top_k",
    "top_logprobs",
    "top_n",
)
KINDS: dict[str, Kind] = {
    **dict.fromkeys(_WHOLE_NUMBERS, (_WHOLE, "a whole number")),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "length_penalty"),
        (_NUMBER, "a number"),
    ),
    **dict.fromkeys(
        ("background", "echo", "parallel_tool_calls", "store", "stream"), (_FLAG, "true or false")
    ),
    **dict.fromkeys(("instructions", "suffix", "user"), (_TEXT, "a text")),
    **dict.fromkeys(("mcp_servers", "stop_sequences", "tools"), (_LIST, "a list")),
    **dict.fromkeys(("logit_bias", "metadata", "response_format", "stream_options"), (_OBJECT, "an object")),
    "stop": (_TEXT | _LIST, "a text or a list of texts"),
    "system": (_TEXT | _LIST, "a text or a list of parts"),
    "tool_choice": (_TEXT | _OBJECT, "a text or an object"),
}
# `length_penalty`: engines divide a beam's value by its length to the power of this, and fail with more.
# `priority`: engines that order requests by it put those with a lower number before all other users'.
RANGES = {"length_penalty": (-10.0, 10.0), "priority": (0, inf)}
# The fields that a path requires, with their kinds; the texts also say that they must not be empty.
_MESSAGES: Kind = (_LIST, "a list with at least one message")
_TEXTS_OR_TOKENS: Kind = (_TEXT | _LIST, "a text, or a list that is not empty")
_REQUIRED: dict[str, dict[str, Kind]] = {
    "chat": {"messages": _MESSAGES},
    "completions": {"prompt": _TEXTS_OR_TOKENS},
    "responses": {"input": (_TEXT | _LIST, "a text, or a list with at least one item")},
    "embeddings": {"input": _TEXTS_OR_TOKENS, "messages": _MESSAGES},
    "rerank": {
        "query": (_TEXT | _LIST | _OBJECT, "a text that is not empty"),
        "documents": (_LIST | _OBJECT, "a list with at least one document"),
    },
    "messages": {"messages": _MESSAGES},
    "count_tokens": {"messages": _MESSAGES},
    "input_tokens": {"input": (_TEXT | _LIST, "a text, or a list with at least one item")},
    "tokenize": {"prompt": (_TEXT, "a text"), "messages": _MESSAGES},
}
# For these an empty text is a valid input.
_MAY_BE_EMPTY = frozenset(("responses", "input_tokens", "tokenize"))
# The items of these lists are answered one by one.
LISTS = {"completions": "prompt", "embeddings": "input", "rerank": "documents"}

# An engine reads this many items in the time of one answer, because it generates nothing for them.
ITEMS_A_PLACE = {"embeddings": 32, "rerank": 32}
COPY_NAMES = ("n", "best_of")

# The fields that say how to answer a body; the scanner notes their values if they are literals.
SCALARS = (
    "background",
    "best_of",
    "cache_prompt",
    "cache_salt",
    "conversation",
    "echo",
    "logprobs",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "n",
    "previous_response_id",
    "prompt_logprobs",
    "store",
    "stream_options",
    "top_logprobs",
)
# The fields with a body's text: the conversation, and parts that may refer to media.
TEXTS = ("messages", "prompt", "input", "documents", "query", "system", "instructions")


class Names(dict[bytes, "Position"]):
    """The positions below one, by their masked names; `other` is that of every name without a description.

    If `strict`, a name like an address leads to ADDRESS.
    """

    __slots__ = ("other", "strict")

    def __init__(self, described: Mapping[str, Position], other: Position, *, strict: bool) -> None:
        super().__init__((name.encode(), position) for name, position in described.items())
        self.other = other
        self.strict = strict

    def __missing__(self, key: bytes) -> Position:
        """Return the position of a name without a description. Raises SluiceError if it is no JSON string."""
        if b"\\" in key:
            key = decode(key).encode("utf-8", "surrogatepass")
            if key in self:
                return self[key]
        if self.strict:
            lower = key.lower()
            if lower.endswith((b"_url", b"_uri")) or lower in (b"url", b"uri"):
                return ADDRESS
        return self.other


class Position:
    """The description of the values at one position, and below it.

    `inside`: the positions below. `address`: a text here must be a `data:` URL. `forbidden`: why no value is
    allowed here. `watches`: the scanner must look at texts here. `awaited`: it must look at the start of each
    value here, unless it `takes_text` and the value is a text. In counted parts: this name (`notable`)
    or the names below it (`notable_within`) count for more than their bytes; it may be an object whose names
    are listed (`lists_names`); only the bytes of texts here count (`literal`).
    """

    __slots__ = (
        "address",
        "awaited",
        "forbidden",
        "inside",
        "kind",
        "lists_names",
        "literal",
        "notable",
        "notable_within",
        "role",
        "takes_text",
        "watches",
    )

    def __init__(
        self,
        inside: Optional[Mapping[str, Position]] = None,
        *,
        other: Optional[Position] = None,
        kind: Optional[Kind] = None,
        role: Role = Role.NONE,
        strict: bool = True,
        address: bool = False,
        forbidden: str = "",
    ) -> None:
        self.inside = Names(inside or {}, other or self, strict=strict)
        self.kind = kind
        self.role = role
        self.address = address
        self.forbidden = forbidden
        self.watches = address or role is not Role.NONE
        self.awaited = kind is not None or role in (Role.LENGTH, Role.LEAST, Role.ITEMS, Role.COUNT)
        self.takes_text = kind is not None and str in kind[0]
        self.notable = self.awaited or bool(forbidden) or role in (Role.TOOL, Role.RANGE)
        self.notable_within = role in (Role.PATTERN_NAMES, Role.CHOICES)
        self.lists_names = role is Role.NAMES
        self.literal = role is Role.PART


# A position without a description, and one whose name is like an address.
ANY = Position()
ADDRESS = Position(other=ANY, address=True)
# A position that engines read only as text.
FREE = Position(strict=False)

_ROLE: Kind = (_TEXT, "a text")
_CONTENT: Kind = (_TEXT | _LIST, "a text or a list of parts")
_NOTES = dict.fromkeys(("annotations", "citations", "metadata"), FREE)
# These are described only for speed: they are not addresses, and bodies have many of them.
_PLAIN = dict.fromkeys(("type", "text", "id", "name"), ANY)
_NO_ID: Kind = (_TEXT | _OBJECT | _LIST | _FLAG, "a text: engines fail on a token's number")
_NO_IDS: Kind = (_OBJECT, "left out: engines fail on lists of tokens")
_SERVERS = "is refused: Sluice connects to no other servers"


def _below(inside: Mapping[str, Position], kind: Optional[Kind] = None) -> Position:
    """Return a position with these positions below it; all other names below it have no description."""
    return Position(inside, other=ANY, kind=kind)


# With only such a name, an engine finds media in its cache, even those that another user sent.
_NO_NAME: Kind = (frozenset(), "left out: engines would answer from the media that anybody sent under it")
_CACHED = {"uuid": Position(other=ANY, kind=_NO_NAME)}


def _conversation(part: Mapping[str, Position], **message: Position) -> Position:
    """Return the position of a list of messages, whose content is a list of such parts."""
    content = _below({**_PLAIN, **_NOTES, **_CACHED, **part}, _CONTENT)
    return _below(
        {**_PLAIN, **_NOTES, "role": Position(other=ANY, kind=_ROLE), "content": content, **message}
    )


_CHAT_MESSAGES = _conversation({}, tool_calls=FREE, function_call=FREE)
_ANTHROPIC_PARTS = {"input": FREE, "content": _below(_NOTES)}
_DOCUMENTS = _below({"content": _below(_CACHED)})
_ITEMS = _conversation(
    {},
    type=Position(other=ANY, role=Role.ITEM_TYPE),
    # A search by the model, its results, and the arguments of a call: engines read them as text.
    **dict.fromkeys(("action", "arguments", "results"), FREE),
)

# --- what an engine compiles, or compares with each token ------------------------------------------------

# Words for people: they are not compiled.
_WORDS = Position(strict=False)
# Literal values in a schema are compiled as a whole; the names in them have no meaning.
_LITERAL = Position(strict=False, role=Role.PART)
_SCHEMA = Position(strict=False, role=Role.PART)


def _in_schema(role: Role, kind: Optional[Kind] = None) -> Position:
    """Return a position within a schema; below it, names have the same meanings as in any schema."""
    position = Position(other=_SCHEMA, strict=False, role=role, kind=kind)
    position.inside = _SCHEMA.inside
    return position


def _same(names: str, position: Position) -> dict[str, Position]:
    return dict.fromkeys(names.split(), position)


# Engines accept schemas at many positions, and within each other: these names mean the same in all of them.
# If a user's own property has such a name, its value is an object, and the role does not apply.
_SCHEMA.inside.update(
    {
        name.encode(): position
        for name, position in {
            **_same("description title $comment examples", _WORDS),
            **_same("enum const default stop token_ids", _LITERAL),
            # As a property's name it has an object. In a structural tag it names tokens.
            **_same("token", _in_schema(Role.PART, _NO_ID)),
            **_same("trigger_tokens exclude_tokens", _in_schema(Role.PART, _NO_IDS)),
            **_same("$ref", _in_schema(Role.REFERENCE)),
            **_same(
                "anyOf oneOf allOf prefixItems choice structures tags elements", _in_schema(Role.CHOICES)
            ),
            **_same("properties $defs definitions dependentSchemas", _in_schema(Role.NAMES)),
            **_same("minLength", _in_schema(Role.LEAST)),
            **_same("minItems maxItems minContains maxContains", _in_schema(Role.ITEMS)),
            **_same("minProperties maxProperties", _in_schema(Role.COUNT)),
            **_same("maxLength", _in_schema(Role.LENGTH)),
            **_same("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf", _in_schema(Role.RANGE)),
            **_same("pattern regex", _in_schema(Role.PATTERN)),
            **_same("patternProperties", _in_schema(Role.PATTERN_NAMES)),
            **_same("grammar ebnf lark definition", _in_schema(Role.GRAMMAR)),
            # A schema may also come as a text that is JSON.
            **_same("json schema json_schema structural_tag", _in_schema(Role.SCHEMA_TEXT)),
        }.items()
    }
)
_TOOL_SCHEMA = _in_schema(Role.TOOL)
_FUNCTION = Position(
    {"parameters": _TOOL_SCHEMA, "input_schema": _TOOL_SCHEMA, "description": _WORDS},
    other=_SCHEMA,
    strict=False,
    role=Role.PART,
)
_TOOLS = Position(
    {
        "parameters": _TOOL_SCHEMA,
        "input_schema": _TOOL_SCHEMA,
        "description": _WORDS,
        "function": _FUNCTION,
        "server_url": Position(forbidden=_SERVERS),
    },
    other=_SCHEMA,
    strict=False,
    role=Role.PART,
)
COMPILED: dict[str, Position] = {
    **_same("tools", _TOOLS),
    **_same("functions", _FUNCTION),
    **_same("response_format structured_outputs text output_config output_format tool_choice", _SCHEMA),
    # Names of older versions of vLLM, and of llama.cpp.
    **_same("guided_json json_schema structural_tag", _in_schema(Role.SCHEMA_TEXT)),
    **_same("guided_regex", _in_schema(Role.PATTERN)),
    **_same("guided_choice", _in_schema(Role.CHOICES)),
    **_same("guided_grammar grammar", _in_schema(Role.GRAMMAR)),
    **_same("stop stop_sequences bad_words stop_token_ids allowed_token_ids", _LITERAL),
    **_same("logit_bias logprob_token_ids dry_sequence_breakers", _LITERAL),
}
# None of these may occur twice, or in another case: parsers differ in which one they use.
NAMES = frozenset(("model", "stream", *TEXTS, *SCALARS, *COMPILED, "mcp_servers"))

# --- the top of the body ---------------------------------------------------------------------------------


class Field:
    """A name at the top of the body. `position`: its description, None if its value is not checked.

    `kind`: the kind that it must have. `full`: it must not be empty; an empty text is only allowed if it
    `may_be_empty`. `empty`: why it must be empty. `objects`: its items must be objects. `counts`: its items
    are answered one by one. `single`: it must not occur twice, or in another case. `costly`: what is below it
    is counted.
    """

    __slots__ = (
        "costly",
        "counts",
        "empty",
        "full",
        "kind",
        "may_be_empty",
        "name",
        "objects",
        "position",
        "range",
        "single",
        "takes_text",
    )

    def __init__(self, capability: str, name: str, position: Optional[Position]) -> None:
        required = _REQUIRED.get(capability, {}).get(name)
        self.name = name
        self.position = position
        self.kind = required or (_NAME if name == "model" else KINDS.get(name))
        self.takes_text = self.kind is not None and str in self.kind[0] and name not in SCALARS
        self.full = required is not None
        self.may_be_empty = capability in _MAY_BE_EMPTY
        self.empty = _NO_SERVERS if name == "mcp_servers" else ""
        self.objects = self.full and (name == "messages" or capability in ("responses", "input_tokens"))
        self.counts = LISTS.get(capability) == name
        self.range = RANGES.get(name)
        self.single = name in NAMES
        self.costly = position is not None and position.role is not Role.NONE


_NAME: Kind = (_TEXT, "a string")
_NO_SERVERS = "must be left out: Sluice connects to no other servers"
_FLAGS = Position(other=FREE, kind=(_FLAG, "true or false"))
_OPTIONS = Position(_same("include_usage continuous_usage_stats", _FLAGS), other=FREE, strict=False)
_EVERYWHERE: dict[str, Optional[Position]] = {
    **dict.fromkeys((*KINDS, *SCALARS)),
    **dict.fromkeys(TEXTS, ANY),
    **COMPILED,
    "model": None,
    "stream_options": _OPTIONS,
}
_ANTHROPIC_MESSAGES = _conversation(_ANTHROPIC_PARTS)
_OWN: dict[str, dict[str, Position]] = {
    # A template may quote documents beside a conversation: they are text.
    "chat": {"messages": _CHAT_MESSAGES, "documents": FREE},
    "responses": {"input": _ITEMS},
    "input_tokens": {"input": _ITEMS},
    "embeddings": {"messages": _CHAT_MESSAGES},
    "tokenize": {"messages": _CHAT_MESSAGES},
    "rerank": {"query": _DOCUMENTS, "documents": _DOCUMENTS},
    "messages": {"messages": _ANTHROPIC_MESSAGES, "system": _below(_NOTES)},
    "count_tokens": {"messages": _ANTHROPIC_MESSAGES, "system": _below(_NOTES)},
}
# A schema in the form of a text is read as the member `schema` of a separate body.
IN_TEXT = "schema"


def _fields(capability: str) -> dict[str, Field]:
    found = {**_EVERYWHERE, **_OWN.get(capability, {})}
    return {name: Field(capability, name, position) for name, position in found.items()}


# By capability and name.
FIELDS: dict[str, dict[str, Field]] = {
    **{capability: _fields(capability) for capability in CAPABILITIES},
    IN_TEXT: {
        name: Field(IN_TEXT, name, position) for name, position in (("model", None), ("schema", _SCHEMA))
    },
}


def _names(position: Position, seen: set[int]) -> set[str]:
    """Return all names in a description."""
    if id(position) in seen:
        return set()
    seen.add(id(position))
    found = {name.decode() for name in position.inside}
    for below in (*position.inside.values(), position.inside.other):
        found |= _names(below, seen)
    return found


# The names that errors may quote: all others are a user's own.
_MEDIA = (
    "url uri image_url audio_url video_url file_url source file output text input_audio image video audio"
)
SAYABLE = frozenset(_MEDIA.split()).union(
    *(fields for fields in FIELDS.values()),
    *(_names(one.position, set()) for fields in FIELDS.values() for one in fields.values() if one.position),
)


def most_copies(given: Mapping[str, object]) -> int:
    """Return how many answers a body asks for, by its `n` and `best_of`."""
    counts = [given[name] for name in COPY_NAMES if name in given]
    return max([1, *(int(count) for count in counts if isinstance(count, (int, float)))])


def places(capability: str, given: Mapping[str, object], items: int) -> int:
    """Return how many places of a model a body needs; `items`: how many prompts, inputs or documents it has.

    An item for which the engine generates nothing needs only a part of a place.
    """
    if capability in COUNTING:
        return 1
    # No message has room for a number of hundreds of digits.
    return min(MAX_COUNT, most_copies(given) * max(1, -(-items // ITEMS_A_PLACE.get(capability, 1))))
