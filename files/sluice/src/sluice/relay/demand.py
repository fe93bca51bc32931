"""What this relay reports to the scheduler, in a file of its own: running, waiting and last requests."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from sluice.contracts.demand import DemandFile, ModelDemand
from sluice.contracts.files import write_json

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
# A proxy reports each second while requests wait; an older report does not count (seconds).
WAITING_SECONDS = 30.0
# An answer that is older than this does not show that the instance is healthy (seconds).
ANSWERED_SECONDS = 60.0
MODE = 0o640
SWEEP_SECONDS = 3600.0
_LEFT_BEHIND = re.compile(r"\.?[0-9a-f]{16}\.json(?:\.[A-Za-z0-9_]+)?")


class Demand:
    """Counts of this session by model. `now` is wall-clock time throughout."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        # By model, then by instance; instances without any are left out.
        self.instances: dict[str, dict[str, int]] = {}
        self._waiting: dict[str, int] = {}
        self._reported = 0.0
        self._last: dict[str, float] = {}
        self._answered: dict[str, dict[str, int]] = {}

    def asked(self, model: str, now: float) -> None:
        """Note that a request arrived."""
        self._last[model] = now

    def began(self, model: str, instance: str, places: int = 1) -> None:
        """Note that a request went to an instance, where it takes this many places."""
        _count(self.running, model, places)
        _count(self.instances.setdefault(model, {}), instance, places)

    def ended(self, model: str, instance: str, places: int = 1) -> None:
        """Note that such a request has ended."""
        _count(self.running, model, -places)
        _count(self.instances.get(model, {}), instance, -places)

    def answered(self, model: str, instance: str, now: float) -> None:
        """Note that an instance answered: it is healthy, even if the scheduler's probe cannot reach it."""
        unit = ModelDemand.ANSWERED_UNIT
        self._answered.setdefault(model, {})[instance] = int(now // unit) * unit

    def report(self, waiting: Mapping[str, int], now: float) -> None:
        """Note the proxy's report of waiting requests, as the gate let it through."""
        self._waiting = dict(waiting)
        self._reported = now
        for model, count in waiting.items():
            if count:
                self._last[model] = now

    def snapshot(self, now: float) -> dict[str, ModelDemand]:
        """Return the demand of each model that had a request."""
        waiting = self._waiting if now - self._reported < WAITING_SECONDS else {}
        self._answered = {model: _recent(times, now) for model, times in self._answered.items()}
        return {
            model: ModelDemand(
                self.running.get(model, 0),
                waiting.get(model, 0),
                last,
                dict(self.instances.get(model, {})),
                self._answered.get(model, {}),
            )
            for model, last in self._last.items()
        }


def _recent(times: Mapping[str, int], now: float) -> dict[str, int]:
    return {instance: then for instance, then in times.items() if now - then < ANSWERED_SECONDS}


def _count(counts: dict[str, int], key: str, change: int) -> None:
    left = counts.get(key, 0) + change
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)


class DemandWriter:
    """Writes the demand file when its content changed and at least every REFRESH_SECONDS."""

    def __init__(self, directory: str) -> None:
        self.relay = secrets.token_hex(8)
        self._path = Path(directory) / f"{self.relay}.json"
        self._written: Optional[dict[str, ModelDemand]] = None
        self._at = 0.0
        self._over = False

    def sweep(self, now: float) -> None:
        """Remove the files of relays that were killed."""
        for path in self._path.parent.glob("*"):
            try:
                if _LEFT_BEHIND.fullmatch(path.name) and now - path.stat().st_mtime > SWEEP_SECONDS:
                    path.unlink()
            except OSError:
                # Another relay removed it first.
                continue

    def due(self, models: Mapping[str, ModelDemand], now: float) -> bool:
        """Whether the file must be written."""
        return models != self._written or now - self._at >= REFRESH_SECONDS

    def write(self, models: dict[str, ModelDemand], now: float) -> None:
        """Write the file (it syncs: call it in a thread)."""
        try:
            write_json(self._path, DemandFile(self.relay, now, models).dump(), mode=MODE)
        except OSError as error:
            logger.warning("the demand file cannot be written", extra={"errno": error.errno})
        self._written, self._at = models, now
        if self._over:
            # The relay ended during the write, and found no file to remove.
            self._unlink()

    def remove(self) -> None:
        """Remove the file and never write it again: this relay has no more demand."""
        self._over = True
        self._unlink()

    def _unlink(self) -> None:
        try:
            self._path.unlink()
        except OSError:
            logger.debug("no demand file to remove")
