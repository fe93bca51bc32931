"""The answer to the `metrics` verb: the relay's own samples and those of the scheduler."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sluice.contracts.files import read_json
from sluice.contracts.metrics import MetricsSnapshot, Sample
from sluice.errors import RecordError

logger = logging.getLogger(__name__)

MAX_METRICS_BYTES = 1 << 20

# By name: the kind and the description. All are of one session.
_HELP = {
    "requests_total": ("counter", "Requests of this session by model and outcome"),
    "running": ("gauge", "Open requests of this session on instances"),
    "instance_losses_total": ("counter", "Connections to instances that were lost or could not be opened"),
    "instance_connections": ("gauge", "Connections of this session to instances"),
    "breaker_open": ("gauge", "Instances that this session does not use because they keep failing"),
    "open_streams": ("gauge", "Open streams of this session"),
    "bytes_in_total": ("counter", "Bytes of bodies received"),
    "bytes_out_total": ("counter", "Bytes of answers sent"),
    "retries_total": ("counter", "Attempts beyond the first"),
    "session_age_seconds": ("gauge", "Age of this session"),
}


@dataclass
class Connections:
    """The connections to one model's instances: how many are open, and how many have an open breaker."""

    open: int = 0
    broken: int = 0


class Counters:
    """What one session has done so far."""

    def __init__(self, born: float) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.retries = 0
        self._losses: dict[str, int] = {}
        self._born = born
        self._outcomes: dict[tuple[str, str], int] = {}

    def count(self, model: str, outcome: str) -> None:
        """Count a request by its outcome: `ok`, `cancelled`, or an error's code."""
        self._outcomes[model, outcome] = self._outcomes.get((model, outcome), 0) + 1

    def lost(self, reason: str) -> None:
        """Count a connection to an instance that was lost, or could not be opened."""
        self._losses[reason] = self._losses.get(reason, 0) + 1

    def samples(
        self, now: float, streams: int, running: Mapping[str, int], connections: Mapping[str, Connections]
    ) -> list[Sample]:
        """Return the session's samples; `now`: monotonic clock; `running` and `connections`: by model."""
        found = [
            *(
                _sample("requests_total", count, model=model, outcome=outcome)
                for (model, outcome), count in sorted(self._outcomes.items())
            ),
            *(_sample("running", count, model=model) for model, count in sorted(running.items())),
            *(
                _sample("instance_losses_total", count, reason=reason)
                for reason, count in sorted(self._losses.items())
            ),
        ]
        for model, counts in sorted(connections.items()):
            found.append(_sample("instance_connections", counts.open, model=model))
            found.append(_sample("breaker_open", counts.broken, model=model))
        return [
            *found,
            _sample("open_streams", streams),
            _sample("bytes_in_total", self.bytes_in),
            _sample("bytes_out_total", self.bytes_out),
            _sample("retries_total", self.retries),
            _sample("session_age_seconds", now - self._born),
        ]


def _sample(name: str, value: float, **labels: str) -> Sample:
    kind, text = _HELP[name]
    return Sample(f"sluice_relay_{name}", kind, text, float(value), labels)


def scheduler_samples(path: str) -> tuple[Sample, ...]:
    """Return the scheduler's samples, none if its file is missing or not valid."""
    try:
        return MetricsSnapshot.parse(read_json(path, MAX_METRICS_BYTES)).samples
    except RecordError as error:
        logger.warning("the scheduler's metrics are not valid", extra={"field": error.field})
    except OSError as error:
        logger.info("the scheduler's metrics cannot be read", extra={"errno": error.errno})
    return ()
