"""Configuration files: JSON that the playbook writes, read once into frozen dataclasses.

A part describes its file as a frozen dataclass. `load` checks that the file has exactly its fields with the
right types. Nested dataclasses, `list[X]`, `dict[str, X]` and `Optional[X]` are supported.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, Union

from sluice.errors import ConfigError

T = TypeVar("T")

MAX_CONFIG_BYTES = 1 << 20


def load(cls: type[T], path: Union[str, Path]) -> T:
    """Read `path` into `cls`.

    Raises ConfigError if the file cannot be read or is not a JSON object, if a field without a default is
    missing, or if a key is unknown or its value has the wrong type. The message names the key and the file.
    """
    return parse(cls, _read(Path(path)), str(path))


def parse(cls: type[T], obj: object, source: str) -> T:
    """Build `cls` from decoded JSON; messages name `source`. Raises ConfigError."""
    try:
        built = _build(cls, obj, "")
    except _Mismatch as mismatch:
        where = mismatch.where or "the document"
        raise ConfigError(f"{source}: {where}: {mismatch.problem}") from None
    except ConfigError as error:
        # Raised by a dataclass that checks its own values: it knows the key but not the file.
        raise ConfigError(f"{source}: {error.message}") from None
    return typing.cast(T, built)


@functools.cache
def type_hints(cls: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name. Cached: the lookup is slower than reading a value."""
    return typing.get_type_hints(cls)


class _Mismatch(Exception):
    def __init__(self, where: str, problem: str) -> None:
        super().__init__(problem)
        self.where = where
        self.problem = problem


def _read(path: Path) -> object:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); run the playbook, or name another file with --config"
        ) from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; is this the right file?")
    try:
        return json.loads(raw)
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); run the playbook again") from None


def _build(expected: Any, value: object, where: str) -> object:
    if dataclasses.is_dataclass(expected):
        return _build_dataclass(expected, value, where)
    origin = typing.get_origin(expected)
    arguments = typing.get_args(expected)
    if origin in (Union, getattr(types, "UnionType", Union)):
        return _build_optional(arguments, value, where)
    if origin is list or origin is tuple:
        if not isinstance(value, list):
            raise _Mismatch(where, "must be a list")
        built = [_build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
        return built if origin is list else tuple(built)
    if origin is dict:
        if not isinstance(value, dict):
            raise _Mismatch(where, "must be an object")
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _build_scalar(expected, value, where)


def _build_optional(arguments: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and type(None) in arguments:
        return None
    (expected,) = [argument for argument in arguments if argument is not type(None)]
    return _build(expected, value, where)


def _build_scalar(expected: Any, value: object, where: str) -> object:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is Any or (isinstance(value, expected) and not (expected is int and isinstance(value, bool))):
        return value
    raise _Mismatch(where, f"must be of type {expected.__name__}, not {type(value).__name__}")


def _build_dataclass(cls: Any, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise _Mismatch(where, "must be an object")
    hints, fields = type_hints(cls), cls.__dataclass_fields__
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in fields and not (key == "version" and not where):
            raise _Mismatch(f"{prefix}{key}", "is not a known key")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _build(hints[name], value[name], f"{prefix}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _Mismatch(f"{prefix}{name}", "is missing")
    return cls(**arguments)
