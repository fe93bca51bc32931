"""Counts tokens in an answer that passes by, without keeping it."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass

# Quotes inside a JSON string are escaped, so these cannot match what a model wrote.
USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
NAME = b'"usage"'
CHUNK = {
    "chat": b'"delta":',
    "completions": b'"text":',
    "responses": b'.delta"',
    "messages": b'"content_block_delta"',
    "embeddings": b'"embedding":',
    "rerank": b'"relevance_score":',
}
TAIL = 4096
MOST = 1 << 53


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of one request; `measured` is false when chunks were counted in place of tokens.

    `cached` of the input tokens were in the engine's cache.
    """

    input: int
    output: int
    measured: bool
    cached: int = 0


NOTHING = TokenCount(0, 0, measured=False)


class TokenMeter:
    """Watches the bytes of one answer go by; keeps only its last few thousand bytes.

    The engine's own figures count when the answer ends with them, as a whole answer always does and a stream
    does when the client asked for it. If not, the chunks of a stream are counted: about one each token.
    Each piece is searched once, for what marks a chunk; nothing is parsed before the end.
    """

    __slots__ = ("_chunks", "_last", "_mark", "_overlap", "_size", "_tail")

    def __init__(self, capability: str) -> None:
        self._mark = CHUNK[capability]
        self._overlap = len(self._mark) - 1
        self._chunks = 0
        self._last = b""
        self._tail: deque[bytes] = deque()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        self._chunks += data.count(self._mark)
        if self._last and not self._last.endswith(b"\n"):
            # An event may be cut anywhere, within the mark too; what the cut left whole is counted already.
            seam = self._last + data[: self._overlap]
            self._chunks += seam.count(self._mark)
        if len(data) > TAIL:
            data = data[-TAIL:]
        self._last = (self._last + data if len(data) < self._overlap else data)[-self._overlap :]
        self._tail.append(data)
        self._size += len(data)
        while self._size - len(self._tail[0]) >= TAIL:
            self._size -= len(self._tail.popleft())

    def count(self) -> TokenCount:
        """Return what is known so far."""
        tail = b"".join(self._tail)[-TAIL:]
        # From the end: the last figures count, and to search for the whole pattern from the start is slow.
        found, at = None, len(tail)
        while found is None and (at := tail.rfind(NAME, 0, at)) >= 0:
            found = USAGE.match(tail, at)
        figures = _figures(found.group(1)) if found is not None else None
        if figures is not None:
            return TokenCount(figures[0], figures[1], measured=True)
        return TokenCount(0, self._chunks, measured=False)


def _figures(raw: bytes) -> tuple[int, int] | None:
    try:
        usage = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not _is_count(prompt) or not _is_count(completion):
        return None
    return prompt, completion


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST
