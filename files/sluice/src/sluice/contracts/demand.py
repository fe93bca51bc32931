"""The demand file, in which a relay reports running and waiting requests: `demand-file.json`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import INSTANCE_ID, MAX_COUNT, MAX_TIME, MODEL_NAME


@dataclass(frozen=True)
class ModelDemand:
    """Requests of one model at one relay; `last` is the time of the last request, answered or not.

    `instances`: how many of the running requests each instance has; instances without any are left out.
    `answered`: by instance, when it last answered a request of this relay. The time is rounded down to
    ANSWERED_UNIT seconds, so that the file does not change with each answer.
    """

    running: int
    waiting: int
    last: float
    instances: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)

    ANSWERED_UNIT = 5

    @classmethod
    def parse(cls, obj: object, where: str = "") -> ModelDemand:
        """Read one model of a demand file; unknown fields are refused."""
        fields = Fields(obj, where)
        demand = cls(
            running=fields.integer("running", 0, MAX_COUNT),
            waiting=fields.integer("waiting", 0, MAX_COUNT),
            last=fields.number("last", 0, MAX_TIME),
            instances=_by_instance(fields, "instances", MAX_COUNT),
            answered=_by_instance(fields, "answered", int(MAX_TIME)),
        )
        fields.done()
        return demand


def _by_instance(fields: Fields, name: str, most: int) -> dict[str, int]:
    found = {}
    for instance, number in fields.mapping(name, INSTANCE_ID, {}).items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            raise fields.fail(name, f"{instance} must be a whole number from 0 to {most}")
        found[instance] = number
    return found


@dataclass(frozen=True)
class DemandFile:
    """One relay's demand."""

    relay: str
    written: float
    models: dict[str, ModelDemand]

    RELAY = re.compile(r"[0-9a-f]{16}")

    @classmethod
    def parse(cls, obj: object) -> DemandFile:
        """Read a demand file; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        models = fields.mapping("models", MODEL_NAME)
        demand = cls(
            relay=fields.text("relay", cls.RELAY),
            written=fields.number("written", 0, MAX_TIME),
            models={name: ModelDemand.parse(model, f"models.{name}") for name, model in models.items()},
        )
        fields.done()
        return demand

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)
