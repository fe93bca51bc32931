"""Metrics for Prometheus, of the scheduler (its file is `figures.json`) and of the relay. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import MAX_TIME, PRINTABLE

SAMPLE_NAME = re.compile(r"sluice_(?:relay|scheduler)_[a-z0-9_]{1,80}")
LABEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class Sample:
    """One number for Prometheus: a gauge or a counter with its labels."""

    name: str
    kind: str
    help: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Sample:
        """Read one sample."""
        fields = Fields(obj, where)
        labels = {}
        for name, value in fields.mapping("labels", LABEL_NAME, {}).items():
            if not isinstance(value, str) or not PRINTABLE.fullmatch(value):
                raise fields.fail("labels", f"{name} must be a printable string")
            labels[name] = value
        return cls(
            name=fields.text("name", SAMPLE_NAME),
            kind=fields.choice("kind", ("gauge", "counter")),
            help=fields.text("help", PRINTABLE),
            value=fields.number("value", -1e308, 1e308),
            labels=labels,
        )

    def dump(self) -> dict[str, Any]:
        """Return the sample as JSON has it."""
        return dump_record(self)


@dataclass(frozen=True)
class MetricsSnapshot:
    """All metrics at one time (`written`): the scheduler's file, or the answer to the `metrics` verb."""

    written: float
    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, obj: object) -> MetricsSnapshot:
        """Read the document."""
        fields = Fields(obj)
        fields.version()
        return cls(
            written=fields.number("written", 0, MAX_TIME),
            samples=tuple(Sample.parse(item, path) for path, item in fields.items("samples")),
        )

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)
