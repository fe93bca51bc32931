"""What the wire's frames carry: heads of requests, answers and errors, and demand. Pure."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from sluice.contracts.encoding import decode_json
from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.paths import INSTANCE_PATHS, PATHS
from sluice.contracts.values import (
    CLASSES,
    INSTANCE_OR_NONE,
    MAX_COUNT,
    MODEL_NAME,
    PRINTABLE,
    REQUEST_ID,
    USER,
    any_of,
)
from sluice.errors import CODES

AFFINITY = re.compile(r"(?:[0-9a-f]{64})?")
EVENT_STREAM = "text/event-stream"
CONTENT_TYPES = ("application/json", "text/event-stream", "text/plain")
ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
GO_AWAY_CODES = ("shutdown", "age", "protocol", "closed")
# A request ends with an error after this many broken attempts, at all relays together.
MOST_BREAKS = 2


class RequestHead(NamedTuple):
    """The head of a request from the VM; `length`: the bytes of the body that follows.

    `breaks`: how many earlier attempts of this request broke; sent only to minor version 1 or newer.
    `places`: how many places of the model it takes; sent only to minor version 2 or newer.
    """

    id: str
    model: str
    method: str
    path: str
    user: str
    class_: str
    length: int
    affinity: str = ""
    breaks: int = 0
    places: int = 1

    @classmethod
    def parse(cls, obj: object) -> RequestHead:
        """Read a request's head; unknown fields are refused."""
        fields = Fields(obj)
        head = cls(
            id=fields.text("id", REQUEST_ID),
            model=fields.text("model", MODEL_NAME),
            method=fields.choice("method", ("POST",)),
            path=fields.choice("path", tuple(PATHS)),
            user=fields.text("user", USER),
            class_=fields.choice("class", CLASSES),
            length=fields.integer("length", 1, 1 << 40),
            affinity=fields.text("affinity", AFFINITY, ""),
            breaks=fields.integer("breaks", 0, MAX_COUNT, 0),
            places=fields.integer("places", 1, MAX_COUNT, 1),
        )
        fields.done()
        return head

    @classmethod
    def read(cls, raw: bytes) -> RequestHead:
        """Read a head from its JSON. Raises RecordError."""
        found = _REQUEST_SPELLING.fullmatch(raw.decode("latin-1"))
        if found is None:
            return cls.parse(decode_json(raw))
        name, model, method, path, user, class_, length, affinity = found.groups()
        return cls(name, model, method, path, user, class_, int(length), affinity)

    def encode(self) -> bytes:
        """Return the head's compact JSON; its fields must be of the forms that `parse` takes."""
        name, model, method, path, user, class_, length, affinity, breaks, places = self
        more = (f',"breaks":{breaks}' if breaks else "") + (f',"places":{places}' if places > 1 else "")
        return (
            f'{{"id":"{name}","model":"{model}","method":"{method}","path":"{path}","user":"{user}",'
            f'"class":"{class_}","length":{length},"affinity":"{affinity}"{more}}}'
        ).encode("ascii")


# The spelling of `encode`. A head that matches needs no JSON parser and no other check, which costs a fifth.
# Every other spelling is parsed.
_REQUEST_SPELLING = re.compile(
    rf'\{{"id":"({REQUEST_ID.pattern})","model":"({MODEL_NAME.pattern})","method":"(POST)",'
    rf'"path":"({any_of(PATHS)})","user":"({USER.pattern})","class":"({any_of(CLASSES)})",'
    rf'"length":([1-9][0-9]{{0,11}}),"affinity":"({AFFINITY.pattern})"\}}'
)
_INSTANCE_SPELLING = re.compile(
    rf'\{{"id":"({REQUEST_ID.pattern})","method":"(GET|POST)","path":"({any_of(INSTANCE_PATHS)})",'
    rf'"length":(0|[1-9][0-9]{{0,11}})\}}'
)
_RESPONSE_SPELLING = re.compile(
    rf'\{{"status":([1-5][0-9][0-9]),"content_type":"({any_of(CONTENT_TYPES)})",'
    rf'"instance":"({INSTANCE_OR_NONE.pattern})"\}}'
)


class InstanceRequest(NamedTuple):
    """The head of a request from a relay to a front; `length`: the bytes of the body that follows.

    `places`: how many places of the instance it takes; sent only to minor version 2 or newer.
    """

    id: str
    method: str
    path: str
    length: int
    places: int = 1

    @classmethod
    def parse(cls, obj: object) -> InstanceRequest:
        """Read a request's head; unknown fields are refused."""
        fields = Fields(obj)
        head = cls(
            id=fields.text("id", REQUEST_ID),
            method=fields.choice("method", ("GET", "POST")),
            path=fields.choice("path", INSTANCE_PATHS),
            length=fields.integer("length", 0, 1 << 40),
            places=fields.integer("places", 1, MAX_COUNT, 1),
        )
        fields.done()
        return head

    @classmethod
    def read(cls, raw: bytes) -> InstanceRequest:
        """Read a head from its JSON. Raises RecordError."""
        found = _INSTANCE_SPELLING.fullmatch(raw.decode("latin-1"))
        if found is None:
            return cls.parse(decode_json(raw))
        name, method, path, length = found.groups()
        return cls(name, method, path, int(length))

    def encode(self) -> bytes:
        """Return the head's compact JSON; its fields must be of the forms that `parse` takes."""
        name, method, path, length, places = self
        more = f',"places":{places}' if places > 1 else ""
        return f'{{"id":"{name}","method":"{method}","path":"{path}","length":{length}{more}}}'.encode(
            "ascii"
        )


class ResponseHead(NamedTuple):
    """The start of an answer."""

    status: int
    content_type: str
    instance: str = ""

    @classmethod
    def parse(cls, obj: object) -> ResponseHead:
        """Read a response's head."""
        fields = Fields(obj)
        return cls(
            status=fields.integer("status", 100, 599),
            content_type=fields.choice("content_type", CONTENT_TYPES),
            instance=fields.text("instance", INSTANCE_OR_NONE, ""),
        )

    @classmethod
    def read(cls, raw: bytes) -> ResponseHead:
        """Read a head from its JSON. Raises RecordError."""
        return _read_response(raw)

    def encode(self) -> bytes:
        """Return the head's compact JSON; its fields must be of the forms that `parse` takes."""
        return (
            f'{{"status":{self.status},"content_type":"{self.content_type}","instance":"{self.instance}"}}'
        ).encode("ascii")


# The answers of an instance have very few different heads.
@functools.lru_cache(maxsize=256)
def _read_response(raw: bytes) -> ResponseHead:
    found = _RESPONSE_SPELLING.fullmatch(raw.decode("latin-1"))
    if found is None:
        return ResponseHead.parse(decode_json(raw))
    status, content_type, instance = found.groups()
    return ResponseHead(int(status), content_type, instance)


@dataclass(frozen=True)
class ErrorHead:
    """Why a stream has ended; `retry_after` in seconds.

    `breaks`: how many attempts of the request have broken so far, including those that its head reported.
    """

    code: str
    message: str
    retry_after: Optional[float] = None
    breaks: int = 0

    @classmethod
    def parse(cls, obj: object) -> ErrorHead:
        """Read an error frame's payload. A code of a newer release is read as `internal_error`."""
        fields = Fields(obj)
        code = fields.text("code", ERROR_CODE)
        return cls(
            code=code if code in CODES else "internal_error",
            message=fields.text("message", PRINTABLE),
            retry_after=fields.optional_number("retry_after", 0, 86_400),
            breaks=fields.integer("breaks", 0, MAX_COUNT, 0),
        )

    def dump(self) -> dict[str, Any]:
        """Return the payload as JSON has it."""
        document = dump_record(self)
        if not self.breaks:
            del document["breaks"]
        return document


@dataclass(frozen=True)
class DemandHead:
    """The payload of a demand frame: the number of waiting requests, by model."""

    models: dict[str, int]

    @classmethod
    def parse(cls, obj: object) -> DemandHead:
        """Read a demand frame; unknown fields are refused."""
        fields = Fields(obj)
        models = fields.mapping("models", MODEL_NAME)
        counts = Fields(models, "models")
        head = cls(models={name: counts.integer(name, 0, MAX_COUNT) for name in models})
        fields.done()
        return head

    def dump(self) -> dict[str, Any]:
        """Return the payload as JSON has it."""
        return dump_record(self)
