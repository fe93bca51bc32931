"""Reads and writes the fields of a document: each is checked by a full match. Pure.

`parse` takes decoded JSON and returns the record, or raises RecordError with the field's path. `dump` returns
the object for JSON, with `version` if the document is not part of another. Documents that a job or the VM
sends to the cluster, and the model entry, refuse unknown fields; the others ignore them.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Optional

from sluice.errors import RecordError

VERSION = 1


class Fields:
    """Reads the fields of one JSON object and remembers which were read.

    `where` is the object's own path, for messages. Each method raises RecordError.
    """

    def __init__(self, obj: object, where: str = "") -> None:
        if not isinstance(obj, dict):
            raise RecordError(where, "must be an object")
        self._obj = obj
        self._where = where
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        """Return the full path of field `name`."""
        return f"{self._where}.{name}" if self._where else name

    def fail(self, name: str, problem: str) -> RecordError:
        """Return the error for field `name`; the caller raises it."""
        return RecordError(self.path(name), problem)

    def get(self, name: str, default: object = dataclasses.MISSING) -> object:
        """Return the field as it was in the JSON."""
        self._read.add(name)
        if name in self._obj:
            return self._obj[name]
        if default is dataclasses.MISSING:
            raise self.fail(name, "is missing")
        return default

    def text(self, name: str, pattern: re.Pattern[str], default: Any = dataclasses.MISSING) -> str:
        """Return a string that `pattern` matches in full."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.fail(name, "must be a string")
        if not pattern.fullmatch(value):
            raise self.fail(name, f"does not match {pattern.pattern}")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: Any = dataclasses.MISSING) -> str:
        """Return a string that is in a closed list."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.fail(name, "must be one of " + ", ".join(allowed))
        return value

    def integer(self, name: str, low: int, high: int, default: Any = dataclasses.MISSING) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(name, "must be a whole number")
        if not low <= value <= high:
            raise self.fail(name, f"must be from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, default: Any = dataclasses.MISSING) -> float:
        """Return a number from `low` to `high` as a float."""
        value = self.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.fail(name, "must be a number")
        if not low <= value <= high:
            raise self.fail(name, f"must be from {low:g} to {high:g}")
        return float(value)

    def optional_number(self, name: str, low: float, high: float) -> Optional[float]:
        """Return a number from `low` to `high`, or None for null or an absent field."""
        return None if self.get(name, None) is None else self.number(name, low, high)

    def flag(self, name: str, default: Any = dataclasses.MISSING) -> bool:
        """Return true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, "must be true or false")
        return value

    def items(
        self, name: str, default: Any = dataclasses.MISSING, most: int = 10_000
    ) -> list[tuple[str, object]]:
        """Return a list's items, each with its path."""
        value = self.get(name, default)
        if not isinstance(value, list):
            raise self.fail(name, "must be a list")
        if len(value) > most:
            raise self.fail(name, f"has more than {most} items")
        return [(f"{self.path(name)}[{index}]", item) for index, item in enumerate(value)]

    def texts(
        self, name: str, pattern: re.Pattern[str], default: Any = dataclasses.MISSING
    ) -> tuple[str, ...]:
        """Return a list of strings that `pattern` matches in full, without repeats."""
        found: list[str] = []
        for where, item in self.items(name, default):
            if not isinstance(item, str) or not pattern.fullmatch(item):
                raise RecordError(where, f"must be a string that matches {pattern.pattern}")
            found.append(item)
        return tuple(found)

    def mapping(
        self, name: str, key: re.Pattern[str], default: Any = dataclasses.MISSING
    ) -> dict[str, object]:
        """Return an object whose keys `key` matches in full."""
        value = self.get(name, default)
        if not isinstance(value, dict):
            raise self.fail(name, "must be an object")
        if len(value) > 10_000:
            raise self.fail(name, "has more than 10000 keys")
        for entry in value:
            if not isinstance(entry, str) or not key.fullmatch(entry):
                raise self.fail(name, f"has a key that does not match {key.pattern}")
        return value

    def version(self) -> None:
        """Check the document's version."""
        value = self.get("version")
        if value != VERSION or isinstance(value, bool):
            raise self.fail("version", f"is {value!r}, this code reads {VERSION}"[:80])

    def done(self) -> None:
        """Refuse fields that were not read."""
        unknown = sorted(str(name)[:64] for name in self._obj if name not in self._read)
        if unknown:
            raise self.fail(unknown[0], "is not a known field")


def dump_record(record: Any, *, version: bool = False) -> dict[str, Any]:
    """Return a record as JSON has it: records as objects, tuples as lists, `version` if asked for."""
    document: dict[str, Any] = {"version": VERSION} if version else {}
    # dataclasses.asdict copies every value deeply and costs four times as much, for each request.
    for name in record.__dataclass_fields__:
        document[name] = _json_ready(getattr(record, name))
    return document


def _json_ready(value: Any) -> Any:
    """Return `value` as JSON reads it back: records as objects, tuples as lists."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value):
        return dump_record(value)
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return value
