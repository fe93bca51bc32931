"""What the proxy reads and checks in a request's body: the same rules for every size.

It checks only what it needs to route the request, to protect others or to explain an error; the engine checks
the rest. The body is forwarded byte for byte. The rules are those of the scanner, which the relay applies
again; this module also returns a summary of the body.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from sluice.bodies.costs import Bounds
from sluice.bodies.positions import ITEMS_A_PLACE, LISTS, most_copies
from sluice.bodies.scan import BodyScanner
from sluice.contracts.encoding import decode_json
from sluice.contracts.paths import COUNTING
from sluice.errors import RecordError, SluiceError
from sluice.proxy.bodies.fields import (
    check_copies,
    check_nothing_kept,
    lone_surrogate,
    most_output,
    own_copies,
    wrong,
)

# Bodies of more bytes are never parsed as a whole: a scanner reads them as they arrive.
INLINE_PARSE = 64 * 1024
# How many tokens of a prompt given as tokens count for the choice of an instance.
PREFIX_TOKENS = 64

# The fields that separate prompts in an engine's cache.
CACHE_FIELDS = frozenset(("cache_salt", "cache_prompt"))
# The field that has the engine cut a prompt to this many tokens.
CUT = "truncate_prompt_tokens"
# Their answers are never event streams.
_WHOLE_ANSWERS = frozenset(("embeddings", "rerank")) | COUNTING
# Required fields: one of each group.
_NEEDED = {
    "chat": (("messages",),),
    "completions": (("prompt",),),
    "responses": (("input",),),
    "embeddings": (("input", "messages"),),
    "rerank": (("query",), ("documents",)),
    "messages": (("messages",), ("max_tokens",)),
    "count_tokens": (("messages",),),
    "input_tokens": (("input",),),
    "tokenize": (("prompt", "messages"),),
}


class BodySummary(NamedTuple):
    """What a checked body asks for.

    `prefix`: the beginning that requests of one conversation share, b"" if a cached prefix does not help.
    `most_output`: the most tokens of one answer, None if the body does not say. `n`: the body's own n.
    `copies`: all answers together, one or n for each prompt, input or document. `places`: how many places
    they take. `options`: the body's `stream_options`, if it was parsed; `has_options`: whether it has that
    member, even if null. `cache_fields`: those of CACHE_FIELDS in the body. `token_ids`: the length of the
    longest prompt given as tokens, if the body was parsed.
    """

    model: str
    stream: bool
    prefix: bytes
    capability: str = "chat"
    most_output: int | None = None
    copies: int = 1
    n: int = 1
    places: int = 1
    options: dict[str, Any] | None = None
    has_options: bool = False
    cache_fields: frozenset[str] = frozenset()
    token_ids: int = 0


def summary_of(raw: bytes, capability: str, bounds: Bounds) -> BodySummary:
    """Check a small body of the path with this `capability`; return its summary. Raises SluiceError.

    The JSON parser is stricter than the scanner and explains errors better; all other rules are the
    scanner's.
    """
    scanner = BodyScanner(capability, bounds)
    try:
        scanner.feed(raw)
    except SluiceError as error:
        if error.code == "malformed_json":
            _check_surrogates(parse(raw))
        raise
    document = parse(raw)
    summary = summary_of_scanned(scanner, capability)
    _check_roles(document.get("messages"))
    return summary._replace(
        prefix=summary.prefix or _tokens(document, capability),
        options=document.get("stream_options"),
        # With this field, the engine accepts a longer prompt and cuts it.
        token_ids=0 if CUT in document else _longest(document.get(LISTS.get(capability, ""))),
    )


def _check_surrogates(document: Mapping[str, Any]) -> None:
    """Raise SluiceError with the path of half a surrogate pair, unless the document is nested too deep."""
    with contextlib.suppress(RecursionError):
        where = lone_surrogate(document)
        if where is not None:
            raise wrong(where, "has half of a surrogate pair, which is not a character")


def _longest(prompts: object) -> int:
    """Return the length of the longest prompt given as tokens, 0 if there is none."""
    nested = isinstance(prompts, list) and prompts and isinstance(prompts[0], list)
    each: Any = prompts if nested else [prompts]
    return max((len(one) for one in each if isinstance(one, list) and one and type(one[0]) is int), default=0)


def _check_roles(messages: object) -> None:
    """Raise SluiceError that names a message without a role; engines would refuse it too."""
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict) and message.get("role") is None:
            raise wrong(f"messages[{index}].role", "must be a text")


def _tokens(document: Mapping[str, Any], capability: str) -> bytes:
    """Return the beginning of a prompt given as tokens, which the scanner's prefix does not include."""
    prompt = document.get("prompt") if capability == "completions" else None
    return str(prompt[:PREFIX_TOKENS]).encode() if isinstance(prompt, list) else b""


def summary_of_scanned(scanner: BodyScanner, capability: str) -> BodySummary:
    """Check a completely scanned body; return its summary. Raises SluiceError."""
    model = scanner.finish()
    if not model:
        raise wrong("model", "is required: the name of a model that GET /v1/models lists")
    given, there = scanner.given, (scanner.seen - scanner.nulls)
    for names in _NEEDED[capability]:
        if there.isdisjoint(names):
            raise wrong(names[0], "is required")
    check_copies(given)
    if capability in ("responses", "input_tokens"):
        check_nothing_kept(given, there)
    if scanner.stream and capability in _WHOLE_ANSWERS:
        raise wrong("stream", "cannot be true: this path does not stream")
    most = most_output(given, capability)
    items = scanner.items if capability in LISTS else 1
    return BodySummary(
        model=model,
        stream=bool(scanner.stream),
        prefix=b"" if capability in _WHOLE_ANSWERS else scanner.prefix,
        capability=capability,
        most_output=most,
        copies=most_copies(given) * max(1, items),
        n=own_copies(given),
        places=scanner.places,
        has_options="stream_options" in given,
        cache_fields=CACHE_FIELDS & scanner.seen,
    )


def check_places(summary: BodySummary, most: int) -> None:
    """Raise SluiceError `invalid_request` if a body needs more places than an instance has."""
    if summary.places <= most:
        return
    if summary.copies == summary.places and summary.capability not in LISTS:
        raise wrong(
            "n", f"asks for {summary.places} answers; this model gives at most {most} at the same time"
        )
    at_once = most * ITEMS_A_PLACE.get(summary.capability, 1)
    raise wrong(
        LISTS.get(summary.capability, "n"),
        f"asks, with `n` and `best_of`, for {summary.copies} places; this model allows at most {at_once} "
        "in one request. Send several requests",
    )


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`. Raises SluiceError `malformed_json`."""
    try:
        document = decode_json(raw)
    except RecordError as error:
        raise SluiceError("malformed_json", f"The body {error.problem}.") from None
    if not isinstance(document, dict):
        raise SluiceError("malformed_json", "The body must be one JSON object.")
    return document
