"""JSON as documents and the wire use it: one document in UTF-8, without duplicate keys and NaN. Pure."""

from __future__ import annotations

import json
from typing import Any

from sluice.errors import RecordError


def decode_json(raw: bytes) -> object:
    """Decode one JSON document in UTF-8; duplicate keys and NaN are refused. Raises RecordError."""
    try:
        # `json` guesses the encoding of bytes: the same UTF-16 bytes could mean something else to others.
        return _DECODER.decode(raw.decode("utf-8"))
    except RecordError:
        raise
    except RecursionError:
        raise RecordError("", "is nested too deeply") from None
    except ValueError as error:
        raise RecordError("", f"is not JSON in UTF-8 ({type(error).__name__})") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise RecordError("", "has a key twice in one object")
    return unique


def _no_constant(name: str) -> None:
    raise RecordError("", f"has {name}, which is not JSON")


# Made once: `json.loads` and `json.dumps` with options would make one for each document.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode_json(document: dict[str, Any]) -> bytes:
    """Encode one JSON document compactly, in ASCII."""
    return _ENCODER.encode(document).encode("ascii")
