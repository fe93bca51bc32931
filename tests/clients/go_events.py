"""How the public client for Go reads event streams, rebuilt: tests cannot install its own package.

Up to version 3.42 it takes every blank line for the end of an event, and reads the event's data as JSON: an
event without data ends the stream with an error. Later versions pass such events over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


class BrokenStream(Exception):
    """The client would return an error in place of the next chunk."""


def chunks(stream: bytes) -> Iterator[Any]:
    """Yield what a program gets out of a stream. Raises BrokenStream where the program gets an error."""
    for data in _events(stream):
        if data.startswith(b"[DONE]"):
            return
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise BrokenStream(f"an event's data are no JSON: {data[:80]!r}") from error
        if "error" in chunk:
            raise BrokenStream(f"received error while streaming: {chunk['error']}")
        yield chunk


def _events(stream: bytes) -> Iterator[bytes]:
    data = b""
    for line in stream.split(b"\n"):
        if not line.removesuffix(b"\r"):
            yield data
            data = b""
            continue
        name, _, value = line.removesuffix(b"\r").partition(b":")
        if name == b"data":
            data += value.removeprefix(b" ") + b"\n"
