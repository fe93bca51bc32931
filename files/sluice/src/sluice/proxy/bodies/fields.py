"""What a body's fields mean for limits, and which fields ask for storage. Pure functions over noted fields.

What fields may be, and where media may stand, is `sluice.bodies`. Each raises SluiceError with the path of
the field at fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sluice.bodies.positions import COPY_NAMES
from sluice.errors import SluiceError

# More answers at once than OpenAI's own API gives.
MOST_COPIES = 128
# By what names a path is told how long an answer may be. Another path's name means nothing to its engine.
_OUTPUT_NAMES = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
ALL_OUTPUT_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# To engines that know it, none best of is the same as no word of it.
LEAST_COPIES = {"n": 1, "best_of": 0}
_NOT_KEPT = "must be left out: nothing is stored. Send the whole conversation with each request"


def wrong(param: str, problem: str) -> SluiceError:
    """Return the error for the field at path `param`; its problem goes on after its name."""
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param[:200])


def most_output(fields: Mapping[str, Any], capability: str) -> int | None:
    """Return how many tokens an answer may have at most, None where the body does not say.

    Of two names the larger counts, and 0 as nothing: engines differ in what they make of either, and limits
    must hold for all of them.
    """
    for name in ALL_OUTPUT_NAMES:
        if (fields.get(name) or 0) < 0:
            raise wrong(name, "must be 0 or more")
    if capability not in _OUTPUT_NAMES:
        return 0
    most = max(int(fields.get(name) or 0) for name in _OUTPUT_NAMES[capability])
    return most or None


def check_copies(fields: Mapping[str, Any]) -> None:
    """Check how many answers are asked for at once."""
    for name in COPY_NAMES:
        count = fields.get(name)
        if count is not None and not LEAST_COPIES[name] <= count <= MOST_COPIES:
            raise wrong(name, f"must be from {LEAST_COPIES[name]} to {MOST_COPIES}")


def own_copies(fields: Mapping[str, Any]) -> int:
    """Return a checked body's own n."""
    return int(fields.get("n") or 1)


def check_nothing_kept(fields: Mapping[str, object], others: Collection[str]) -> None:
    """Refuse what would need an answer, or a conversation, that was stored; `others`: what else there is."""
    for name in ("previous_response_id", "conversation", "prompt"):
        if fields.get(name) is not None or name in others:
            raise wrong(name, _NOT_KEPT)
    if fields.get("store"):
        raise wrong("store", "cannot be true: nothing is stored")
    if fields.get("background"):
        raise wrong("background", "cannot be true: nothing is stored. Wait for the answer, or use a stream")


def lone_surrogate(value: object, where: str = "") -> str | None:
    """Return the path of a text with half of a surrogate pair, which no UTF-8 can hold; None without one."""
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
