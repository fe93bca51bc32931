"""Counts the tokens of an answer while it passes, without keeping it.

Quotes inside a JSON string are escaped, so the searched patterns, which include quotes, never match a model's
text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

from sluice.contracts.paths import COUNTING

NAME = b'"usage":'
# A pattern in each counted piece of an answer, for engines that report no usage: about one for each token of
# a stream.
CHUNK = {
    "chat": b'"delta":',
    "completions": b'"text":',
    "responses": b'.delta"',
    "messages": b'"content_block_delta"',
    "embeddings": b'"embedding":',
    "rerank": b'"relevance_score":',
    # Token counts are not charged: no answer contains this.
    **dict.fromkeys(COUNTING, b"\0"),
}
# The longest usage object of an engine, in bytes.
LONGEST_USAGE = 1024
# How many bytes of the last piece are kept: a pattern may be cut anywhere.
OVERLAP = 32
MOST = 1 << 53
# The index for the usage of all choices together.
ALL = b""

_DECODER = json.JSONDecoder()
_NEWLINE = 10


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of one request; `measured` is False if chunks were counted instead of tokens.

    `cached`: how many input tokens were in the engine's cache.
    """

    input: int
    output: int
    measured: bool
    cached: int = 0


NOTHING = TokenCount(0, 0, measured=False)


class TokenMeter:
    """Reads the bytes of one answer; keeps only the engine's usage object.

    The last usage counts. If the answer ends without one, for example because the client leaves, its chunks
    are counted, and `guess` is used for the input. A caller that separates the chunks passes their usage to
    `note`: then the count is exact wherever the stream ends. `copies`: the number of answers to each prompt.
    """

    __slots__ = (
        "_capability",
        "_chunks",
        "_copies",
        "_first",
        "_found",
        "_guess",
        "_kept",
        "_noted",
        "_open",
    )

    def __init__(self, capability: str, guess: int = 0, copies: int = 1) -> None:
        self._capability = capability
        self._guess = guess
        self._copies = max(copies, 1)
        self._chunks = 0
        self._kept = b""
        # What follows the first and the last "usage"; for the last one, more may come (`_open`).
        self._first = b""
        self._found = b""
        self._open = False
        self._noted: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        mark, kept, seam = CHUNK[self._capability], self._kept, 0
        if self._open:
            self._found += data[:LONGEST_USAGE]
            self._open = len(self._found) < LONGEST_USAGE
        if kept and kept[-1] != _NEWLINE:
            # Inside an event, which may be cut anywhere. The kept bytes were already searched.
            seam = len(kept)
            self._chunks -= kept.count(mark)
            data = kept + data
        self._chunks += data.count(mark)
        if NAME in data:
            self._search(data, max(0, seam - len(NAME) + 1))
        self._kept = data[-OVERLAP:]

    def note(self, choice: bytes, usage: bytes) -> None:
        """Take the usage of one chunk, as JSON: of the choice with this index until now, or of ALL."""
        self._noted[choice] = usage

    def count(self) -> TokenCount:
        """Return the count so far."""
        if self._noted:
            counted = self._of_choices()
        elif self._capability == "messages":
            counted = self._of_message()
        elif self._capability == "rerank":
            # After it come the client's own documents, which may contain "usage" too.
            counted = _count(_decode(self._first or self._found))
        else:
            counted = _count(_decode(self._found))
        return TokenCount(self._guess, self._chunks, measured=False) if counted is None else counted

    def _search(self, data: bytes, start: int) -> None:
        at = data.find(NAME, start)
        while at >= 0:
            at += len(NAME)
            self._first = self._first or self._found
            self._found = data[at : at + LONGEST_USAGE]
            self._open = len(self._found) < LONGEST_USAGE
            at = data.find(NAME, at)

    def _of_choices(self) -> TokenCount | None:
        """Add up the last usage of each choice; a usage of ALL replaces them."""
        if ALL in self._noted:
            return _count(_decode(self._noted[ALL]))
        output = 0
        inputs: dict[int, int] = {}
        for choice, raw in self._noted.items():
            counted = _count(_decode(raw))
            if counted is None:
                return None
            output += counted.output
            # Each choice reports the tokens of its own prompt.
            prompt = 0 if self._capability == "chat" else _index(choice) // self._copies
            inputs[prompt] = counted.input
        return TokenCount(sum(inputs.values()), output, measured=True)

    def _of_message(self) -> TokenCount | None:
        """Combine the input, reported at a stream's beginning, with the output, reported at its end."""
        begun, ended = _decode(self._first), _decode(self._found)
        if ended is None:
            return None
        counted = _count({**(begun or {}), **ended})
        if counted is None or begun is not None or (counted.output and not self._chunks):
            return counted
        return TokenCount(counted.input, self._chunks, measured=False, cached=counted.cached)


def _decode(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object at the start of `raw`; None if there is no complete one."""
    try:
        found, _ = _DECODER.raw_decode(raw.decode("utf-8", "replace").lstrip())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _count(usage: dict[str, Any] | None) -> TokenCount | None:
    """Return the count from an engine's usage object, with any path's field names; None if it has none."""
    if usage is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    given = usage.get("prompt_tokens", usage.get("input_tokens", usage.get("total_tokens")))
    output = usage.get("completion_tokens", usage.get("output_tokens")) or 0
    if not _is_count(given) or not _is_count(output):
        return None
    # In Anthropic's format, input_tokens does not include tokens read from or written to the cache; elsewhere
    # it does.
    beside = sum(one for one in (read, written) if _is_count(one))
    kept = next((one for one in (cached, read) if _is_count(one)), 0)
    return TokenCount(given + beside, output, measured=True, cached=kept)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _index(choice: bytes) -> int:
    return int(choice) if choice.isdigit() else 0
