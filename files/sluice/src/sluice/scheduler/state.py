"""The scheduler's state file: versioned, replaced as a whole by rename, written only by this process.

A state that cannot be read is renamed, never overwritten; the next squeue answer then adopts the running
jobs by their names. States of earlier and later versions are read: unknown fields are dropped, missing ones
take their defaults.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from sluice import config
from sluice.contracts.fields import VERSION
from sluice.contracts.files import read_json, write_text
from sluice.errors import ConfigError, RecordError
from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.instances.node_failures import Node
from sluice.scheduler.policy.ledger import Ledger
from sluice.scheduler.policy.policy import Backoff, Memory

log = logging.getLogger(__name__)

# How many seconds an ended instance's name is remembered, in case Slurm shows its job again.
REMEMBER_ENDED = 7 * 86_400.0

# Fields of which only a few keys change from one tick to the next.
KEYED = ("entries", "instances", "memory")

Stamp = tuple[int, int, int]
ABSENT: Stamp = (0, 0, 0)


class Overwritten(OSError):
    """Another process wrote the state since this one last did: another host may have taken over."""


@dataclass(frozen=True)
class Lease:
    """Who runs the scheduler: the host, its boot id, and when it last renewed the lease."""

    host: str = ""
    boot_id: str = ""
    time: float = 0.0


@dataclass(frozen=True)
class Ended:
    """An instance that is gone: what is needed to adopt its job if that appears again."""

    model: str
    digest: str
    time: float


@dataclass(frozen=True)
class FailedStart:
    """The last start of a model that failed: what its job wrote before it was ready, oldest line first."""

    instance: str
    job_id: str
    digest: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Everything that outlives a process.

    `entries` holds each model's last good entry, for models whose entry is gone or cannot be read while
    instances remain. `adopting` is true until the first squeue answer after the state was lost.
    `queue_failures` and `submissions` count since the state was created; `queue_failing` is the number of
    failed squeue answers in a row. `backoff`: how long Slurm accepts no submission at all; `scope_backoffs`:
    how long none of an account, partition and QOS. `ledger`: the use of GPU-hours and cold starts, which are
    bounded over time. `nodes`: failed starts and successes on the cluster's nodes.
    """

    instances: dict[str, Instance] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: dict[str, Ended] = field(default_factory=dict)
    failed_starts: dict[str, FailedStart] = field(default_factory=dict)
    lease: Lease = field(default_factory=Lease)
    generation: int = 0
    queue_failures: int = 0
    queue_failing: int = 0
    submissions: int = 0
    adopting: bool = False
    backoff: Backoff = field(default_factory=Backoff)
    ledger: Ledger = field(default_factory=Ledger)
    nodes: dict[str, Node] = field(default_factory=dict)
    scope_backoffs: dict[str, Backoff] = field(default_factory=dict)


class StateFile:
    """The file at `path`, and which version of it this process knows."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._stamp: Optional[Stamp] = None
        self._pieces: dict[tuple[str, str], tuple[object, str]] = {}

    def load(self, now: float) -> State:
        """Return the state; in place of an absent or damaged one, an empty state that the queue will fill.

        Raises OSError when the file exists but cannot be read: then nothing may be decided.
        """
        try:
            self._stamp = self._look()
            document = read_json(self.path)
        except FileNotFoundError:
            log.warning("there is no state yet: it is built from the queue", extra={"path": str(self.path)})
            return State(adopting=True)
        except RecordError as error:
            return self._set_aside(str(error), now)
        if not isinstance(document, dict) or document.get("version") != VERSION:
            return self._set_aside("not a state of this version", now)
        try:
            return config.parse(State, known(State, document), str(self.path))
        except ConfigError as error:
            return self._set_aside(error.message, now)

    def peek(self) -> Optional[State]:
        """Return the state for display, or None if there is none that can be read. Changes nothing.

        Raises PermissionError: only the scheduler's account and root may read the state.
        """
        try:
            document = read_json(self.path)
            return config.parse(State, known(State, document), str(self.path))
        except PermissionError:
            raise
        except (OSError, RecordError, ConfigError):
            return None

    def save(self, state: State) -> None:
        """Write the state; it is on disk when this returns.

        Raises OSError, and Overwritten if another process wrote the file meanwhile.
        """
        if self._stamp is not None and self._look() not in (self._stamp, ABSENT):
            raise Overwritten(f"{self.path}: written by another process; is a scheduler running elsewhere?")
        write_text(self.path, self._text(state), mode=0o600)
        self._stamp = self._look()

    def _look(self) -> Stamp:
        """Return what tells one version of the file from another."""
        try:
            # A network file system may answer stat from its cache; open makes it ask the server.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return ABSENT
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _text(self, state: State) -> str:
        """Return the JSON document; values that did not change since the last call are not encoded again."""
        before, self._pieces = self._pieces, {}
        parts = [f'"version":{VERSION}']
        for one in dataclasses.fields(State):
            value = getattr(state, one.name)
            words = self._keyed(one.name, value, before) if one.name in KEYED else _json(value)
            parts.append(f'"{one.name}":{words}')
        return "{" + ",".join(parts) + "}\n"

    def _keyed(
        self, name: str, values: Mapping[str, object], before: Mapping[tuple[str, str], tuple[object, str]]
    ) -> str:
        parts = []
        for key in sorted(values):
            value = values[key]
            old = before.get((name, key))
            # Compared by identity: values of the state are replaced, never changed in place.
            piece = old if old is not None and old[0] is value else (value, _json(value))
            self._pieces[name, key] = piece
            parts.append(f"{json.dumps(key)}:{piece[1]}")
        return "{" + ",".join(parts) + "}"

    def _set_aside(self, problem: str, now: float) -> State:
        aside = self.path.with_name(f"{self.path.name}.damaged-{now:.0f}")
        self.path.replace(aside)
        log.error(
            "the state is damaged and was set aside; it is rebuilt from the queue",
            extra={"path": str(self.path), "aside": str(aside), "problem": problem},
        )
        return State(adopting=True)


def _json(value: object) -> str:
    return json.dumps(_plain(value), separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Return a value for JSON: dataclasses as dicts, tuples as lists."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value):
        return {one: _plain(getattr(value, one)) for one in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]


def known(expected: Any, value: object) -> object:
    """Return `value` without the fields that the dataclasses of `expected` do not have, at any depth."""
    if isinstance(expected, type) and dataclasses.is_dataclass(expected):
        if not isinstance(value, dict):
            return value
        hints = config.type_hints(expected)
        return {name: known(hints[name], item) for name, item in value.items() if name in hints}
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is Union:
        (inner,) = [one for one in arguments if one is not type(None)]
        return known(inner, value)
    if origin is dict and isinstance(value, dict):
        return {key: known(arguments[1], item) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return [known(arguments[0], item) for item in value]
    return value
