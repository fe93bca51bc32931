"""Reads what the relays report: one file per relay process, each ignored when it is old."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sluice.errors import RecordError
from sluice.records import DemandFile, read_json
from sluice.scheduler.policy import Demand

log = logging.getLogger(__name__)

MAX_AGE = 15.0
MAX_FILES = 1000
MAX_BYTES = 1 << 20


def read_demand(directory: str, now: float) -> dict[str, Demand]:
    """Return the demand by model name, summed over all relays that reported within 15 seconds.

    Files that cannot be read are skipped: a relay that ends removes its own.
    """
    total: dict[str, Demand] = {}
    for path in _files(directory):
        try:
            reported = DemandFile.parse(read_json(path, MAX_BYTES))
        except OSError:
            continue
        except RecordError as error:
            log.warning("demand file refused", extra={"path": str(path), "problem": str(error)})
            continue
        if abs(now - reported.written) > MAX_AGE:
            continue
        for name, model in reported.models.items():
            before = total.get(name, Demand())
            total[name] = replace(
                before,
                running=before.running + model.running,
                waiting=before.waiting + model.waiting,
                last=max(before.last, model.last),
                instances=_summed(before.instances, model.instances),
                answered=_latest(before.answered, model.answered),
            )
    return total


def _summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _latest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}


def _files(directory: str) -> list[Path]:
    try:
        found = sorted(Path(directory).iterdir())
    except OSError as error:
        log.warning("demand cannot be read", extra={"path": directory, "problem": error.strerror})
        return []
    # Files that are still being written begin with a dot.
    return [path for path in found if path.suffix == ".json" and not path.name.startswith(".")][:MAX_FILES]
