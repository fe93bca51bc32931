"""What the proxy checks in a request's body before it lets it through: pure functions over bytes and JSON.

Only what routes, protects or explains is checked; the engine knows the rest of its API better. The body that
goes on is the one that came, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sluice.errors import RecordError, SluiceError
from sluice.proxy.fields import (
    check_depth,
    check_kinds,
    check_media,
    check_no_servers,
    check_noted,
    check_nothing_kept,
    copies,
    lone_surrogate,
    most_output,
    own_copies,
    wrong,
)
from sluice.records import decode_json
from sluice.scan import MAX_DEPTH, OTHER, BodyScanner

# Larger bodies are never parsed whole: a scanner reads what matters as they come.
INLINE_PARSE = 64 * 1024
# Of the text that makes conversations alike, this much counts for the choice of an instance.
PREFIX_CHARACTERS = 4096
PREFIX_PARTS = 64

# By these a body says whose prompts an engine's cache may find for it.
CACHE_FIELDS = frozenset(("cache_salt", "cache_prompt"))
# Their answers are no event streams.
_WHOLE_ANSWERS = frozenset(("embeddings", "rerank"))
# Each of these is answered by itself. In a scanned body nobody has counted them; so many are assumed.
_PARTS = {"completions": "prompt", "embeddings": "input", "rerank": "documents"}
SCANNED_PARTS = 64
# Of a large body, what must be there: of each group one.
_NEEDED = {
    "chat": (("messages",),),
    "completions": (("prompt",),),
    "responses": (("input",),),
    "embeddings": (("input", "messages"),),
    "rerank": (("query",), ("documents",)),
    "messages": (("messages",), ("max_tokens",)),
}


class Asked(NamedTuple):
    """What a checked body asks for.

    `prefix` is the text by which requests of one conversation are alike, b"" where an instance that knows it
    helps nobody. `most_output`: tokens that one answer may have, None where the body does not say; `n`: its
    own n; `copies`: answers in all, one or n for each prompt, input or document. `options`: its own
    `stream_options`, if it was parsed; `has_options`: whether that member is there, be it null.
    `cache_fields`: those of CACHE_FIELDS that it has.
    """

    model: str
    stream: bool
    prefix: bytes
    capability: str = "chat"
    most_output: int | None = None
    copies: int = 1
    n: int = 1
    options: dict[str, Any] | None = None
    has_options: bool = False
    cache_fields: frozenset[str] = frozenset()


def understand(raw: bytes, capability: str) -> Asked:
    """Parse and check a body of the path that stands for `capability`. Raises SluiceError."""
    document = parse(raw)
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        check_depth(document)
    if b"\\ud" in raw or b"\\uD" in raw:
        where = lone_surrogate(document)
        if where is not None:
            raise wrong(where, "has half of a surrogate pair, which is no character")
    return check(document, capability)


def scanned(scanner: BodyScanner, capability: str) -> Asked:
    """Return what a large body asks for, once it has passed by. Raises SluiceError.

    Of its fields no more is checked than where it goes, what the engine would fetch and what limits need; the
    rest is the engine's to refuse.
    """
    model = scanner.finish()
    given = scanner.given
    for names in _NEEDED[capability]:
        if not any(name in scanner.seen and given.get(name, OTHER) is not None for name in names):
            raise wrong(names[0], "must be given")
    check_noted(given)
    if capability == "responses":
        check_nothing_kept({**given, "prompt": True} if "prompt" in scanner.seen else given)
    _check_stream(scanner.stream, capability)
    return Asked(
        model=model,
        stream=bool(scanner.stream),
        prefix=b"" if capability in _WHOLE_ANSWERS else scanner.prefix,
        capability=capability,
        most_output=most_output(given, capability),
        copies=copies(given) * (SCANNED_PARTS if capability in _PARTS else 1),
        n=own_copies(given),
        has_options="stream_options" in given,
        cache_fields=CACHE_FIELDS & scanner.seen,
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


def check(document: dict[str, Any], capability: str) -> Asked:
    """Check the fields that this part relies on, those of the path that stands for `capability`.

    Raises SluiceError `invalid_request` (with `param`) or `media_url_refused`.
    """
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise wrong("model", "must be given: the name of a model, as GET /v1/models lists them")
    check_kinds(document)
    stream = document.get("stream")
    _check_stream(stream, capability)
    prefix = _CHECKS[capability](document)
    options = document.get("stream_options")
    parts = _PARTS.get(capability)
    return Asked(
        model,
        bool(stream),
        prefix.encode("utf-8", "surrogatepass"),
        capability,
        most_output(document, capability),
        copies(document) * (1 if parts is None else _count(document.get(parts))),
        own_copies(document),
        options,
        "stream_options" in document,
        CACHE_FIELDS & document.keys(),
    )


def _count(parts: object) -> int:
    """Return how many prompts, inputs or documents there are; a list of token ids is one."""
    if not isinstance(parts, list) or not parts or isinstance(parts[0], int):
        return 1
    return len(parts)


def _check_stream(stream: object, capability: str) -> None:
    if stream and capability in _WHOLE_ANSWERS:
        raise wrong("stream", "cannot be true: this path's answers come whole")


# --- what each path's body must have --------------------------------------------------------------------


def _completions(document: dict[str, Any]) -> str:
    prompt = document.get("prompt")
    if not isinstance(prompt, (str, list)) or not prompt:
        raise wrong("prompt", "must be a text, or a list that is not empty")
    check_media(prompt, "prompt")
    return _text(prompt)


def _chat(document: dict[str, Any]) -> str:
    return _conversation(_messages(document, "messages"))


def _anthropic(document: dict[str, Any]) -> str:
    messages = _messages(document, "messages")
    if document.get("max_tokens") is None:
        raise wrong("max_tokens", "must be given: how many tokens the answer may have at most")
    check_media(document.get("system"), "system")
    check_no_servers(document)
    return _joined(document.get("system"), _conversation(messages))


def _responses(document: dict[str, Any]) -> str:
    check_nothing_kept(document)
    check_no_servers(document)
    given = document.get("input")
    if isinstance(given, str) and given:
        return _joined(document.get("instructions"), _text(given))
    if not isinstance(given, list) or not given:
        raise wrong("input", "must be a text, or a list with at least one item")
    for index, item in enumerate(given):
        _check_item(item, f"input[{index}]")
    return _joined(document.get("instructions"), _conversation(given))


def _embeddings(document: dict[str, Any]) -> str:
    given = document.get("input")
    if given is None and "messages" in document:
        _messages(document, "messages")
    elif not isinstance(given, (str, list)) or not given:
        raise wrong("input", "must be a text, or a list that is not empty")
    check_media(given, "input")
    return ""


def _rerank(document: dict[str, Any]) -> str:
    query, documents = document.get("query"), document.get("documents")
    if not isinstance(query, (str, dict, list)) or not query:
        raise wrong("query", "must be a text that is not empty")
    if not isinstance(documents, (list, dict)) or not documents:
        raise wrong("documents", "must be a list with at least one document")
    check_media(query, "query")
    check_media(documents, "documents")
    return ""


_CHECKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "embeddings": _embeddings,
    "rerank": _rerank,
    "messages": _anthropic,
}


def _messages(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    messages = document.get(name)
    if not isinstance(messages, list) or not messages:
        raise wrong(name, "must be a list with at least one message")
    for index, message in enumerate(messages):
        _check_message(message, f"{name}[{index}]")
    return messages


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, dict):
        raise wrong(where, "must be an object with `role` and `content`")
    if not isinstance(message.get("role"), str):
        raise wrong(f"{where}.role", "must be a text")
    content = message.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise wrong(f"{where}.content", "must be a text or a list of parts")
    if not (isinstance(content, str) and len(message) == 2):
        check_media(message, where)


def _check_item(item: object, where: str) -> None:
    """Check an item of a response's input: a message, or what a tool or the model said before."""
    if not isinstance(item, dict):
        raise wrong(where, "must be an object")
    kind = item.get("type")
    if kind == "item_reference":
        raise wrong(where, "refers to a stored item: nothing is stored here, send the item itself")
    if "role" in item or kind in (None, "message"):
        _check_message(item, where)
    else:
        check_media(item, where)


# --- the text by which requests are alike ---------------------------------------------------------------


def _joined(before: object, text: str) -> str:
    return f"{_text(before)}\n{text}"[:PREFIX_CHARACTERS] if before else text


def _conversation(messages: list[dict[str, Any]]) -> str:
    """Return the text up to and with the first user message: the same on every turn of a conversation."""
    parts = []
    for message in messages[:8]:
        parts.append(_text(message.get("content")))
        if message.get("role") == "user":
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
