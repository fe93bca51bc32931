"""What the proxy reads in a request's body before it accepts it: one rule for every size.

Only what routes, protects or explains is checked; the engine knows the rest of its API better. The body that
goes on is the one that came, byte for byte. The rule is the scanner's, which the relay applies again; here it
is told what the body asks for.
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

# Larger bodies are never parsed whole: a scanner reads what matters as they come.
INLINE_PARSE = 64 * 1024
# Of a prompt of tokens, so many count for the choice of an instance.
PREFIX_TOKENS = 64

# By these a body says whose prompts an engine's cache may find for it.
CACHE_FIELDS = frozenset(("cache_salt", "cache_prompt"))
# By this one, how many tokens of a prompt count.
CUT = "truncate_prompt_tokens"
# Their answers are no event streams.
_WHOLE_ANSWERS = frozenset(("embeddings", "rerank")) | COUNTING
# What must be there: of each group one.
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

    `prefix` is the text by which requests of one conversation are alike, b"" where an instance that knows it
    helps nobody. `most_output`: tokens that one answer may have, None where the body does not say; `n`: its
    own n; `copies`: answers in all, one or n for each prompt, input or document; `places`: how many of a
    model's places they take. `options`: its own `stream_options`, if it was parsed; `has_options`: whether
    that member is there, be it null. `cache_fields`: those of CACHE_FIELDS that it has. `token_ids`: how long
    the longest of its prompts is that come as tokens, if it was parsed.
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
    """Read and check a small body of the path that stands for `capability`. Raises SluiceError.

    A parser is stricter than the scanner in what is JSON, and tells it better; all else is the scanner's.
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
        # An engine that is to cut a prompt takes a longer one.
        token_ids=0 if CUT in document else _longest(document.get(LISTS.get(capability, ""))),
    )


def _check_surrogates(document: Mapping[str, Any]) -> None:
    """Say where half of a surrogate pair stands, in a document that may be nested too deep to look."""
    with contextlib.suppress(RecursionError):
        where = lone_surrogate(document)
        if where is not None:
            raise wrong(where, "has half of a surrogate pair, which is not a character")


def _longest(prompts: object) -> int:
    """Return how many tokens the longest prompt has of those that come as tokens."""
    nested = isinstance(prompts, list) and prompts and isinstance(prompts[0], list)
    each: Any = prompts if nested else [prompts]
    return max((len(one) for one in each if isinstance(one, list) and one and type(one[0]) is int), default=0)


def _check_roles(messages: object) -> None:
    """Say which message lacks its role, as any engine would in other words."""
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict) and message.get("role") is None:
            raise wrong(f"messages[{index}].role", "must be a text")


def _tokens(document: Mapping[str, Any], capability: str) -> bytes:
    """Return the start of a prompt that is a list of tokens, which is no text to the scanner."""
    prompt = document.get("prompt") if capability == "completions" else None
    return str(prompt[:PREFIX_TOKENS]).encode() if isinstance(prompt, list) else b""


def summary_of_scanned(scanner: BodyScanner, capability: str) -> BodySummary:
    """Return what a body asks for, once it has passed by. Raises SluiceError."""
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
    """Refuse what needs more places than an instance has. Raises SluiceError `invalid_request`."""
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
