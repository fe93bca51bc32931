"""A small client of the API that uses only the standard library: asks and prints the answer as it streams."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo.bed.errors import BedError

_TIMEOUT = 120.0


class Client:
    """Talks to one Sluice with one API key; `ca` is the certificate authority that it trusts."""

    def __init__(self, url: str, key: str, ca: Path) -> None:
        self._host = urlsplit(url).netloc
        self._key = key
        self._context = ssl.create_default_context(cafile=str(ca))

    def models(self) -> list[dict[str, Any]]:
        """Return the models with their status. Raises BedError."""
        with self._send("GET", "/v1/models", None) as response:
            return list(json.loads(response.read())["data"])

    def stream(self, model: str, messages: list[dict[str, str]], **options: Any) -> Iterator[str]:
        """Yield the answer's pieces. Raises BedError with the service's own message."""
        body = {"model": model, "messages": messages, "stream": True, **options}
        with self._send("POST", "/v1/chat/completions", body) as response:
            for raw in response:
                line = raw.decode().strip()
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield from _pieces(json.loads(line.removeprefix("data: ")))

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self._host, context=self._context, timeout=_TIMEOUT)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
        except OSError as error:
            raise BedError(
                f"{self._host} does not answer: {error}", "see how it is: make demo-status"
            ) from None
        if response.status != 200:
            raise BedError(f"{path} answered {response.status}: {_message(response.read())}")
        return response


def _pieces(event: dict[str, Any]) -> Iterator[str]:
    if "error" in event:
        raise BedError(f"the answer broke off: {event['error'].get('message')}")
    for choice in event.get("choices", []):
        piece = choice.get("delta", {}).get("content")
        if piece:
            yield piece


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
