"""The answer to the `metrics` verb: the relay's own samples, and the scheduler's passed through."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sluice.contracts.figures import Figures, Sample
from sluice.contracts.files import read_json
from sluice.errors import RecordError

logger = logging.getLogger(__name__)

MAX_FIGURES_BYTES = 1 << 20


@dataclass
class LineFigures:
    """The connections to one model's instances: how many stand, and how many have an open breaker."""

    standing: int = 0
    broken: int = 0

    def samples(self, model: str) -> list[Sample]:
        """Return the model's samples."""
        labels = {"model": model}
        return [
            Sample(
                "sluice_relay_instance_connections",
                "gauge",
                "Connections of this session to instances",
                float(self.standing),
                labels,
            ),
            Sample(
                "sluice_relay_breaker_open",
                "gauge",
                "Instances that this session does not use because they keep failing",
                float(self.broken),
                labels,
            ),
        ]


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
        """Count a connection to an instance that was lost, or could not be made."""
        self._losses[reason] = self._losses.get(reason, 0) + 1

    def samples(
        self, now: float, open_streams: int, running: Mapping[str, int], lines: Mapping[str, LineFigures]
    ) -> list[Sample]:
        """Return the session's samples; times are of the monotonic clock, `lines` is by model."""
        found = [
            Sample(
                "sluice_relay_requests_total",
                "counter",
                "Requests of this session by model and outcome",
                float(count),
                {"model": model, "outcome": outcome},
            )
            for (model, outcome), count in sorted(self._outcomes.items())
        ]
        found += [
            Sample(
                "sluice_relay_running",
                "gauge",
                "Open requests of this session on instances",
                float(count),
                {"model": model},
            )
            for model, count in sorted(running.items())
        ]
        found += [
            Sample(
                "sluice_relay_instance_losses_total",
                "counter",
                "Connections to instances that were lost or could not be opened",
                float(count),
                {"reason": reason},
            )
            for reason, count in sorted(self._losses.items())
        ]
        for model, figures in sorted(lines.items()):
            found += figures.samples(model)
        age = now - self._born
        found += [
            Sample("sluice_relay_open_streams", "gauge", "Open streams of this session", float(open_streams)),
            Sample(
                "sluice_relay_bytes_in_total", "counter", "Bytes of bodies received", float(self.bytes_in)
            ),
            Sample("sluice_relay_bytes_out_total", "counter", "Bytes of answers sent", float(self.bytes_out)),
            Sample("sluice_relay_retries_total", "counter", "Attempts beyond the first", float(self.retries)),
            Sample("sluice_relay_session_age_seconds", "gauge", "Age of this session", age),
        ]
        return found


def scheduler_samples(path: str) -> tuple[Sample, ...]:
    """Return the scheduler's samples, none when its file is missing or not valid."""
    try:
        return Figures.parse(read_json(path, MAX_FIGURES_BYTES)).samples
    except RecordError as error:
        logger.warning("the scheduler's metrics are not valid", extra={"field": error.field})
    except OSError as error:
        logger.info("the scheduler's metrics cannot be read", extra={"errno": error.errno})
    return ()
