"""What the proxy checks in a request's body before it lets it through: pure functions over bytes and JSON.

Only what routes, protects or explains is checked; the engine knows the rest of its API better. The body that
goes on is the one that came, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sluice.errors import RecordError, SluiceError
from sluice.records import decode_json
from sluice.scan import BodyScanner

# Larger bodies are never parsed whole: a scanner reads what matters as they come.
INLINE_PARSE = 64 * 1024
# Of the text that makes conversations alike, this much counts for the choice of an instance.
PREFIX_CHARACTERS = 4096
PREFIX_PARTS = 64
# JSON nested deeper than this is no chat; the decoder itself stops at Python's recursion limit.
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What a checked body asks for. `prefix` is the text by which requests of one conversation are alike."""

    model: str
    stream: bool
    prefix: bytes


def understand(raw: bytes, capability: str) -> Asked:
    """Parse and check a body; `capability` is `chat` or `completions`. Raises SluiceError."""
    return check(parse(raw), capability)


def scanned(scanner: BodyScanner, capability: str) -> Asked:
    """Return what a large body asks for, once it has passed by. Raises SluiceError.

    Of its fields no more is checked than where it goes and what the engine would fetch; the rest is the
    engine's to refuse.
    """
    model = scanner.finish()
    needed = "messages" if capability == "chat" else "prompt"
    if needed not in scanner.seen:
        raise _wrong(needed, "must be given")
    return Asked(model=model, stream=bool(scanner.stream), prefix=scanner.prefix)


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`. Raises SluiceError `malformed_json`."""
    try:
        document = decode_json(raw)
    except RecordError as error:
        raise SluiceError("malformed_json", f"The body {error.problem}.") from None
    if not isinstance(document, dict):
        raise SluiceError("malformed_json", "The body must be one JSON object.")
    return document


def check(document: dict[str, Any], capability: str) -> Asked:
    """Check the fields that this part relies on; `capability` is `chat` or `completions`.

    Raises SluiceError `invalid_request` (with `param`) or `media_url_refused`.
    """
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "must be given: the name of a model, as GET /v1/models lists them")
    stream = document.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "must be true or false")
    prefix = _messages(document) if capability == "chat" else _prompt(document)
    return Asked(model=model, stream=bool(stream), prefix=prefix.encode("utf-8", "surrogatepass"))


def _wrong(param: str, problem: str) -> SluiceError:
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param)


def _prompt(document: dict[str, Any]) -> str:
    prompt = document.get("prompt")
    if not isinstance(prompt, (str, list)) or not prompt:
        raise _wrong("prompt", "must be a text, or a list that is not empty")
    _check_part(prompt, "prompt", 0)
    return _text(prompt)


def _messages(document: dict[str, Any]) -> str:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be a list with at least one message")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    return _conversation(messages)


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, dict):
        raise _wrong(where, "must be an object with `role` and `content`")
    if not isinstance(message.get("role"), str):
        raise _wrong(f"{where}.role", "must be a text")
    content = message.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise _wrong(f"{where}.content", "must be a text or a list of parts")
    if not (isinstance(content, str) and len(message) == 2):
        _check_part(message, where, 0)


def _check_part(part: object, where: str, depth: int) -> None:
    """Refuse media by address anywhere in a message: whatever fetches it would fetch for the sender."""
    if depth > MAX_DEPTH:
        raise _wrong(where, "is nested too deeply")
    if isinstance(part, dict):
        for name, value in part.items():
            if isinstance(value, (dict, list)):
                _check_part(value, f"{where}.{name}", depth + 1)
            if _names_address(name):
                _check_address(value, f"{where}.{name}")
    elif isinstance(part, list):
        for index, value in enumerate(part):
            if isinstance(value, (dict, list)):
                _check_part(value, f"{where}[{index}]", depth + 1)


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


def _conversation(messages: list[dict[str, Any]]) -> str:
    """Return the text up to and with the first user message: the same on every turn of a conversation."""
    parts = []
    for message in messages[:8]:
        content = message.get("content")
        parts.append(_text(content))
        if message["role"] == "user":
            break
    return "\n".join(parts)[:PREFIX_CHARACTERS]


def _text(value: object) -> str:
    """Return the start of a prompt or of a message's content as text; of its parts, only those with text."""
    if isinstance(value, str):
        return value[:PREFIX_CHARACTERS]
    if not isinstance(value, list):
        return ""
    texts = [part.get("text", "") if isinstance(part, dict) else part for part in value[:PREFIX_PARTS]]
    return "\n".join(str(text)[:PREFIX_CHARACTERS] for text in texts if isinstance(text, (str, int)))
