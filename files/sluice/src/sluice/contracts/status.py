"""The answer of the `models` verb: what a relay says about its cluster's models. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from sluice.contracts.facts import ModelFacts
from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import GROUP, MAX_COUNT, MAX_TIME, MODEL_NAME, STATUSES


@dataclass(frozen=True)
class ModelStatus(ModelFacts):
    """One model as the relay describes it to the proxy.

    `running`: the places that this relay's requests have on instances that accept new ones; `draining`: those
    on other instances.
    """

    name: str
    status: str
    ready: int
    starting: int
    running: int
    expected_ready: Optional[float]
    draining: int = 0

    @classmethod
    def parse(cls, obj: object, where: str = "") -> ModelStatus:
        """Read one model of a models answer."""
        fields = Fields(obj, where)
        return cls(
            **cls.read(fields),
            name=fields.text("name", MODEL_NAME),
            status=fields.choice("status", STATUSES),
            ready=fields.integer("ready", 0, MAX_COUNT),
            starting=fields.integer("starting", 0, MAX_COUNT),
            running=fields.integer("running", 0, MAX_COUNT),
            expected_ready=fields.optional_number("expected_ready", 0, MAX_TIME),
            draining=fields.integer("draining", 0, MAX_COUNT, 0),
        )


@dataclass(frozen=True)
class ModelsAnswer:
    """The answer of the `models` verb."""

    cluster: str
    models: tuple[ModelStatus, ...]

    @classmethod
    def parse(cls, obj: object) -> ModelsAnswer:
        """Read a models answer."""
        fields = Fields(obj)
        fields.version()
        return cls(
            cluster=fields.text("cluster", GROUP),
            models=tuple(ModelStatus.parse(item, path) for path, item in fields.items("models")),
        )

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)
