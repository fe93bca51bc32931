"""What a body must be before an instance sees it: pure checks.

Engine and relay must read the same document: hence no duplicate keys, UTF-8 alone, no NaN. No text here
quotes the body: errors go to logs and users.
"""

from __future__ import annotations

from sluice.errors import RecordError, SluiceError
from sluice.records import decode_json

DATA_URL = "data:"


def check(raw: bytes, model: str) -> None:
    """Check that `raw` is one JSON object for `model` whose media are all inside it. Raises SluiceError."""
    document = _decode(raw)
    if not isinstance(document, dict):
        raise SluiceError("malformed_json", "the body is not a JSON object")
    given = document.get("model")
    if not isinstance(given, str):
        raise SluiceError("invalid_request", "model must be a string", param="model")
    if given != model:
        raise SluiceError("model_mismatch", "the body's model is not the routed one", param="model")
    for key in ("messages", "prompt"):
        _check_media(document.get(key), key)


def _decode(raw: bytes) -> object:
    try:
        return decode_json(raw)
    except RecordError as error:
        raise SluiceError("malformed_json", f"the body {error.problem}") from None


def _check_media(top: object, param: str) -> None:
    """Refuse every reference by URL below `top`, whatever the part's type: new types come with engines."""
    waiting = [top]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                if _names_url(key):
                    _check_url(item, param)
                if isinstance(item, (dict, list)):
                    waiting.append(item)
        elif isinstance(value, list):
            waiting.extend(item for item in value if isinstance(item, (dict, list)))


def _names_url(key: str) -> bool:
    lower = key.lower()
    return lower in {"url", "uri"} or lower.endswith(("_url", "_uri"))


def _check_url(item: object, param: str) -> None:
    urls = item if isinstance(item, list) else [item]
    if any(isinstance(url, str) and not url.startswith(DATA_URL) for url in urls):
        raise SluiceError(
            "media_url_refused", "media must be part of the request, as a data: URL", param=param
        )
