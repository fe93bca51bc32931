"""The scheduler's state file: whole, versioned, renamed into place, written by this process alone.

A state that cannot be read back is set aside under another name, never overwritten; the next squeue answer
then re-adopts the running jobs by their names.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sluice import config
from sluice.errors import ConfigError, RecordError
from sluice.records import VERSION, read_json, write_json
from sluice.scheduler.instance import Instance
from sluice.scheduler.policy import Memory

log = logging.getLogger(__name__)

# How long an ended instance's name is remembered, in case Slurm brings its job back.
REMEMBER_ENDED = 7 * 86_400.0


@dataclass(frozen=True)
class Lease:
    """Who runs the scheduler: the host, its boot, and when it last said so."""

    host: str = ""
    boot_id: str = ""
    time: float = 0.0


@dataclass(frozen=True)
class Ended:
    """An instance that is gone: enough to take it back if its job appears again."""

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
    """All that outlives a process.

    `entries` holds each model's last good entry, for models whose entry is gone or cannot be read while
    instances remain. `adopting` is true until the first squeue answer after the state was lost.
    `queue_failures`, `submissions` count since the state began; `queue_failing` those in a row.
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


class StateFile:
    """The file at `path`."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def load(self, now: float) -> State:
        """Return the state; an absent or damaged one begins anew, to be rebuilt from the queue.

        Raises OSError when the file exists but cannot be read: then nothing may be decided.
        """
        try:
            document = read_json(self.path)
        except FileNotFoundError:
            log.warning("no state yet: it is built from the queue", extra={"path": str(self.path)})
            return State(adopting=True)
        except RecordError as error:
            return self._set_aside(str(error), now)
        if not isinstance(document, dict) or document.get("version") != VERSION:
            return self._set_aside("not a state of this version", now)
        try:
            return config.parse(State, document, str(self.path))
        except ConfigError as error:
            return self._set_aside(error.message, now)

    def peek(self) -> Optional[State]:
        """Return the state for people to look at, or None while there is none that can be read.

        Changes nothing. Raises PermissionError: the state belongs to the scheduler's account and to root.
        """
        try:
            document = read_json(self.path)
            return config.parse(State, document, str(self.path))
        except PermissionError:
            raise
        except (OSError, RecordError, ConfigError):
            return None

    def save(self, state: State) -> None:
        """Write the state; it is on disk when this returns."""
        write_json(self.path, {"version": VERSION, **dataclasses.asdict(state)}, mode=0o600)

    def _set_aside(self, problem: str, now: float) -> State:
        aside = self.path.with_name(f"{self.path.name}.damaged-{now:.0f}")
        self.path.replace(aside)
        log.error(
            "the state is damaged and was set aside; it is rebuilt from the queue",
            extra={"path": str(self.path), "aside": str(aside), "problem": problem},
        )
        return State(adopting=True)
