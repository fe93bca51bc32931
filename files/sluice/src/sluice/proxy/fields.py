"""What the fields of a body must be: their kinds, the media they may not name, what nobody here keeps.

Pure functions over a parsed document. Each raises SluiceError with the path of the field at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.errors import SluiceError
from sluice.scan import MAX_DEPTH, OTHER

# More answers at once than OpenAI's own API gives.
MOST_COPIES = 128

_WHOLE = frozenset((int,))
_NUMBER = frozenset((int, float))
_FLAG = frozenset((bool,))
_TEXT = frozenset((str,))
_LIST = frozenset((list,))
_OBJECT = frozenset((dict,))

# Kinds of the fields that are alike on every path; null is as good as none. The engine knows all others.
_WHOLE_NUMBERS = (
    "best_of",
    "dimensions",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "n",
    "seed",
    "top_k",
    "top_logprobs",
    "top_n",
)
KINDS: dict[str, tuple[frozenset[type], str]] = {
    **dict.fromkeys(_WHOLE_NUMBERS, (_WHOLE, "a whole number")),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty"), (_NUMBER, "a number")
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
_SCALAR_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
# By what names a path is told how long an answer may be. Another path's name means nothing to its engine.
_OUTPUT_NAMES = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
ALL_OUTPUT_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens")
COPY_NAMES = ("n", "best_of")
_NOT_KEPT = "must be left out: nothing is stored here. Send the whole conversation with each request"


def wrong(param: str, problem: str) -> SluiceError:
    """Return the error for the field at path `param`; its problem goes on after its name."""
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param[:200])


def check_kinds(document: Mapping[str, object]) -> None:
    """Check the kind of each top-level field that is alike on every path."""
    for name, value in document.items():
        kind = KINDS.get(name)
        if kind is not None and value is not None and type(value) not in kind[0]:
            if kind[0] is _WHOLE and _is_whole(value):
                continue
            raise wrong(name, f"must be {kind[1]}")


def _is_whole(value: object) -> bool:
    """Return whether a number with a point is whole: to JSON `2.0` is the same as `2`."""
    return isinstance(value, float) and value.is_integer()


def check_noted(given: Mapping[str, object]) -> None:
    """Check the kinds of what a scanner has noted, where a value that is no literal is OTHER."""
    for name, value in given.items():
        kind = KINDS.get(name)
        if kind is None or value is None:
            continue
        # What is no literal is of the right kind where no literal would be.
        good = kind[0].isdisjoint(_SCALAR_KINDS) if value == OTHER else type(value) in kind[0]
        if not good and not (kind[0] is _WHOLE and _is_whole(value)):
            raise wrong(name, f"must be {kind[1]}")


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


def copies(fields: Mapping[str, Any]) -> int:
    """Return how many answers are asked for at once."""
    most = 1
    for name in COPY_NAMES:
        count = fields.get(name)
        if count is not None:
            if not 1 <= count <= MOST_COPIES:
                raise wrong(name, f"must be from 1 to {MOST_COPIES}")
            most = max(most, int(count))
    return most


def own_copies(fields: Mapping[str, Any]) -> int:
    """Return a checked body's own n."""
    return int(fields.get("n") or 1)


def check_nothing_kept(fields: Mapping[str, object]) -> None:
    """Refuse what would need an answer, or a conversation, that was stored."""
    for name in ("previous_response_id", "conversation", "prompt"):
        if fields.get(name) is not None:
            raise wrong(name, _NOT_KEPT)
    if fields.get("store"):
        raise wrong("store", "cannot be true: nothing is stored here")
    if fields.get("background"):
        raise wrong(
            "background", "cannot be true: nothing is stored here, an answer goes to who waits for it"
        )


def check_no_servers(document: Mapping[str, Any]) -> None:
    """Refuse tools that would have the engine connect to a server: nothing here does."""
    if document.get("mcp_servers"):
        raise wrong("mcp_servers", "must be left out: nothing here connects to other servers")
    tools = document.get("tools") or ()
    for index, tool in enumerate(tools):
        if isinstance(tool, dict) and "server_url" in tool:
            raise wrong(f"tools[{index}].server_url", "is refused: nothing here connects to other servers")


def check_depth(document: dict[str, Any]) -> None:
    """Refuse what is nested deeper than clusters take it: what walks a document here may then recurse."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        values = (part.values() if isinstance(part, dict) else part for part in level)
        level = [value for found in values for value in found if isinstance(value, (dict, list))]
        if not level:
            return
    raise SluiceError("malformed_json", f"The body is nested deeper than {MAX_DEPTH}.")


def check_media(part: object, where: str) -> None:
    """Refuse media by address anywhere in a part: whatever fetches it would fetch for the sender."""
    if isinstance(part, dict):
        for name, value in part.items():
            if isinstance(value, (dict, list)):
                check_media(value, f"{where}.{name}")
            if _names_address(name):
                _check_address(value, f"{where}.{name}")
    elif isinstance(part, list):
        for index, value in enumerate(part):
            if isinstance(value, (dict, list)):
                check_media(value, f"{where}[{index}]")


def _names_address(name: str) -> bool:
    lower = name.lower()
    return lower in ("url", "uri") or lower.endswith(("_url", "_uri"))


def _check_address(value: object, where: str) -> None:
    """Check an address, or the addresses in a list."""
    for address in value if isinstance(value, list) else (value,):
        if not isinstance(address, str) or address.startswith("data:"):
            continue
        raise SluiceError(
            "media_url_refused",
            "Media by address is refused: nothing here fetches from the network. Send it as a `data:` URL.",
            param=where[:200],
        )


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
