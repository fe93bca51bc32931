"""Counts tokens in an answer that passes by, without keeping it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

# Quotes inside a JSON string are escaped, so these cannot match what a model wrote.
USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
CHUNK = {"chat": b'"delta":', "completions": b'"text":'}
TAIL = 4096
MOST = 1 << 53


@dataclass(frozen=True)
class TokenCount:
    """Tokens of one request; `measured` is false when chunks were counted in place of tokens."""

    input: int
    output: int
    measured: bool


class TokenMeter:
    """Watches the bytes of one answer go by; keeps only its last few thousand bytes.

    The engine's own figures count when the answer ends with them, as a whole answer always does and a stream
    does when the client asked for it. If not, the chunks of a stream are counted: about one each token.
    """

    def __init__(self, capability: str) -> None:
        self._chunk = CHUNK[capability]
        self._chunks = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        overlap = self._tail[-(len(self._chunk) - 1) :]
        self._chunks += (overlap + data).count(self._chunk)
        self._tail = (self._tail + data)[-TAIL:]

    def count(self) -> TokenCount:
        """Return what is known so far."""
        found = None
        for match in USAGE.finditer(self._tail):
            found = match
        figures = _figures(found.group(1)) if found is not None else None
        if figures is not None:
            return TokenCount(figures[0], figures[1], measured=True)
        return TokenCount(0, self._chunks, measured=False)


def _figures(raw: bytes) -> tuple[int, int] | None:
    try:
        usage = json.loads(raw)
    except ValueError:
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not _is_count(prompt) or not _is_count(completion):
        return None
    return prompt, completion


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST
