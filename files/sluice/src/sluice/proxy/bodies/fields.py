"""What a body's fields mean for limits, and which fields ask for storage. Pure functions.

`sluice.bodies` checks types, and where media may be. Errors are SluiceError with the path of the wrong field.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sluice.bodies.positions import COPY_NAMES
from sluice.errors import SluiceError

# OpenAI's own API allows no more answers in one request.
MOST_COPIES = 128
# The names of the field for the longest answer, by capability. Engines ignore the names of other paths.
_OUTPUT_NAMES = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
ALL_OUTPUT_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Engines treat `best_of: 0` like a missing `best_of`.
LEAST_COPIES = {"n": 1, "best_of": 0}
_NOT_KEPT = "must be left out: nothing is stored. Send the whole conversation with each request"


def wrong(param: str, problem: str) -> SluiceError:
    """Return the error for the field at path `param`; `problem` continues the sentence after its name."""
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param[:200])


def most_output(fields: Mapping[str, Any], capability: str) -> int | None:
    """Return the most tokens that an answer may have, None if the body does not say. Raises SluiceError.

    With two names the larger value counts, and 0 counts as missing: engines differ in both, and limits must
    hold for all engines.
    """
    for name in ALL_OUTPUT_NAMES:
        if (fields.get(name) or 0) < 0:
            raise wrong(name, "must be 0 or more")
    if capability not in _OUTPUT_NAMES:
        return 0
    most = max(int(fields.get(name) or 0) for name in _OUTPUT_NAMES[capability])
    return most or None


def check_copies(fields: Mapping[str, Any]) -> None:
    """Raise SluiceError if the body asks for too many answers at once."""
    for name in COPY_NAMES:
        count = fields.get(name)
        if count is not None and not LEAST_COPIES[name] <= count <= MOST_COPIES:
            raise wrong(name, f"must be from {LEAST_COPIES[name]} to {MOST_COPIES}")


def own_copies(fields: Mapping[str, Any]) -> int:
    """Return the `n` of a checked body, 1 if it has none."""
    return int(fields.get("n") or 1)


def check_nothing_kept(fields: Mapping[str, object], others: Collection[str]) -> None:
    """Raise SluiceError for fields that need stored answers or conversations; `others`: more field names."""
    for name in ("previous_response_id", "conversation", "prompt"):
        if fields.get(name) is not None or name in others:
            raise wrong(name, _NOT_KEPT)
    if fields.get("store"):
        raise wrong("store", "cannot be true: nothing is stored")
    if fields.get("background"):
        raise wrong("background", "cannot be true: nothing is stored. Wait for the answer, or use a stream")


def lone_surrogate(value: object, where: str = "") -> str | None:
    """Return the path of a text with half a surrogate pair, which UTF-8 cannot encode; None without one."""
    if isinstance(value, str):
        return where if _has_half(value) else None
    if isinstance(value, dict):
        for name, item in value.items():
            if _has_half(name):
                return where or "the body"
            found = lone_surrogate(item, f"{where}.{name}" if where else name)
            if found is not None:
                return found
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found = lone_surrogate(item, f"{where}[{index}]")
            if found is not None:
                return found
    return None


def _has_half(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
