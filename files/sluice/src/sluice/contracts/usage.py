"""The usage record: `usage-record.json`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.paths import PATHS
from sluice.contracts.values import (
    CLASSES,
    GROUP_OR_NONE,
    INSTANCE_OR_NONE,
    LARGEST,
    MAX_TIME,
    MODEL_NAME,
    REQUEST_ID,
    USER,
)
from sluice.errors import CODES


@dataclass(frozen=True)
class UsageRecord:
    """One settled request, never its content.

    Times in seconds. `measured`: false if the tokens were counted by chunks. `cached_tokens`: how many of the
    input tokens were in the engine's cache.
    """

    id: str
    time: float
    user: str
    project: str
    key_id: str
    model: str
    cluster: str
    instance: str
    class_: str
    path: str
    status: int
    code: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    measured: bool
    wait: float
    first_byte: float | None
    duration: float
    bytes_in: int
    bytes_out: int

    @classmethod
    def parse(cls, obj: object, where: str = "") -> UsageRecord:
        """Read one usage record."""
        fields = Fields(obj, where)
        return cls(
            id=fields.text("id", REQUEST_ID),
            time=fields.number("time", 0, MAX_TIME),
            user=fields.text("user", USER),
            # Old records in a spool do not have it.
            project=fields.text("project", GROUP_OR_NONE, ""),
            key_id=fields.text("key_id", USER),
            model=fields.text("model", MODEL_NAME),
            cluster=fields.text("cluster", GROUP_OR_NONE),
            instance=fields.text("instance", INSTANCE_OR_NONE),
            class_=fields.choice("class", CLASSES),
            path=fields.choice("path", tuple(PATHS)),
            status=fields.integer("status", 100, 599),
            code=fields.choice("code", ("", *CODES)),
            input_tokens=fields.integer("input_tokens", 0, LARGEST),
            output_tokens=fields.integer("output_tokens", 0, LARGEST),
            cached_tokens=fields.integer("cached_tokens", 0, LARGEST, 0),
            measured=fields.flag("measured"),
            wait=fields.number("wait", 0, MAX_TIME),
            first_byte=fields.optional_number("first_byte", 0, MAX_TIME),
            duration=fields.number("duration", 0, MAX_TIME),
            bytes_in=fields.integer("bytes_in", 0, LARGEST),
            bytes_out=fields.integer("bytes_out", 0, LARGEST),
        )

    def dump(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        document = dump_record(self)
        document["class"] = document.pop("class_")
        return document
