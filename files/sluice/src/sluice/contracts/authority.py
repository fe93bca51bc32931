"""What passes between the proxy and the authority: docs/contracts.md, "Authority". Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import (
    CLASSES,
    GROUP,
    GROUP_OR_NONE,
    HEX64,
    LARGEST,
    MAX_TIME,
    MODEL_NAME,
    MODEL_OR_NONE,
    PRINTABLE,
    USER,
)
from sluice.errors import RecordError

MOST_STOPPED = 1_000

# Who shares a limit: everybody, the members of a project or group, one user, or one key.
SCOPE = re.compile(rf"site|(?:project|group):{GROUP.pattern}|(?:user|key):{USER.pattern}")
MOST_LIMITS = 200
MOST_SECONDS = 120


@dataclass(frozen=True)
class Limit:
    """What all requests of one scope may use together; None means no bound.

    `scope`: `site`, `project:NAME`, `group:NAME`, `user:PSEUDONYM` or `key:ID`. `model`: the only model that
    counts, or "" for all models together. Tokens are those of input and output; days are in UTC.
    """

    scope: str
    model: str = ""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent: int | None = None

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Limit:
        """Read one limit."""
        fields = Fields(obj, where)
        return cls(
            scope=fields.text("scope", SCOPE),
            model=fields.text("model", MODEL_OR_NONE, ""),
            **{name: _bound(fields, name) for name in LIMITED},
        )

    def dump(self) -> dict[str, Any]:
        """Return the object as JSON has it."""
        return dump_record(self)

    @property
    def bucket(self) -> tuple[str, str]:
        """The counter that it uses: limits with the same scope and model share one."""
        return (self.scope, self.model)


# The fields of a limit that are bounds.
LIMITED = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent")


def _bound(fields: Fields, name: str) -> int | None:
    return None if fields.get(name, None) is None else fields.integer(name, 0, LARGEST)


@dataclass(frozen=True)
class Principal:
    """The user of a key, and what the key may do.

    `project`: the project that its usage counts for, or "". `models`: the only models that the key may use,
    None for all that its groups may use. `limits`: all limits of its requests; the tightest one decides.
    """

    user: str
    key_id: str
    kind: str
    class_: str
    groups: tuple[str, ...]
    expires: float | None
    project: str = ""
    models: tuple[str, ...] | None = None
    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(cls, obj: object, where: str = "principal") -> Principal:
        """Read the `principal` of the authority's answer."""
        fields = Fields(obj, where)
        some = fields.get("models", None) is not None
        return cls(
            user=fields.text("user", USER),
            key_id=fields.text("key_id", USER),
            kind=fields.choice("kind", ("api_key", "page")),
            class_=fields.choice("class", CLASSES),
            groups=fields.texts("groups", GROUP),
            expires=fields.optional_number("expires", 0, MAX_TIME),
            project=fields.text("project", GROUP_OR_NONE),
            models=fields.texts("models", MODEL_NAME) if some else None,
            limits=tuple(Limit.parse(item, at) for at, item in fields.items("limits", most=MOST_LIMITS)),
        )

    def dump(self) -> dict[str, Any]:
        """Return the object as JSON has it."""
        document = dump_record(self)
        document["class"] = document.pop("class_")
        return document


@dataclass(frozen=True)
class Spent:
    """The sums of the settled records of one bucket (`Limit.bucket`).

    `requests` and `tokens`: pairs of second (whole seconds since the epoch) and count, over the last minute.
    A request counts in the second in which it came, tokens in the second in which they were settled.
    `tokens_today`: the tokens of this day (UTC).
    """

    scope: str
    model: str
    requests: tuple[tuple[int, int], ...]
    tokens: tuple[tuple[int, int], ...]
    tokens_today: int

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Spent:
        """Read one bucket of the answer."""
        fields = Fields(obj, where)
        return cls(
            scope=fields.text("scope", SCOPE),
            model=fields.text("model", MODEL_OR_NONE),
            requests=tuple(_seconds(fields, "requests")),
            tokens=tuple(_seconds(fields, "tokens")),
            tokens_today=fields.integer("tokens_today", 0, LARGEST),
        )

    def dump(self) -> dict[str, Any]:
        """Return the object as JSON has it."""
        return dump_record(self)


def _seconds(fields: Fields, name: str) -> Iterator[tuple[int, int]]:
    for where, item in fields.items(name, most=MOST_SECONDS):
        if not isinstance(item, list) or len(item) != 2:
            raise RecordError(where, "must be a pair of second and count")
        pair = Fields({"0": item[0], "1": item[1]}, where)
        yield pair.integer("0", 0, int(MAX_TIME)), pair.integer("1", 0, LARGEST)


@dataclass(frozen=True)
class Stop:
    """A model that an administrator has stopped at this gateway; `message` is for its users, or ""."""

    model: str
    message: str

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Stop:
        """Read one stop of the gateway's answer."""
        fields = Fields(obj, where)
        return cls(model=fields.text("model", MODEL_NAME), message=fields.text("message", PRINTABLE))

    def dump(self) -> dict[str, Any]:
        """Return the object as JSON has it."""
        return dump_record(self)


@dataclass(frozen=True)
class GatewayState:
    """What applies to all requests of a gateway: stopped models, and the secrets of its keys' marks."""

    stopped: tuple[Stop, ...] = ()
    marks: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, fields: Fields) -> GatewayState:
        """Read the gateway's answer; an earlier version sends no `marks`."""
        return cls(
            stopped=tuple(Stop.parse(item, at) for at, item in fields.items("stopped", most=MOST_STOPPED)),
            marks=tuple(map(bytes.fromhex, fields.texts("marks", HEX64, ()))),
        )

    def dump(self) -> dict[str, Any]:
        """Return the answer as JSON has it, without its version."""
        return {
            "stopped": [stop.dump() for stop in self.stopped],
            "marks": [mark.hex() for mark in self.marks],
        }
