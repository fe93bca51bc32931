"""The routing table: `routing-table.json`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from sluice.contracts.facts import ModelFacts
from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import (
    CERTIFICATE,
    GROUP,
    HOST,
    INSTANCE_ID,
    JOB_ID,
    JOB_KEY,
    MAX_COUNT,
    MAX_TIME,
    MODEL_NAME,
    STATUSES,
)

INSTANCE_STATES = ("ready", "draining")


@dataclass(frozen=True)
class RoutedInstance:
    """One instance that requests can go to, with its secrets; `stalled`: its engine generates nothing now."""

    id: str
    job_id: str
    host: str
    port: int
    certificate: str
    key: str
    state: str
    stalled: bool = False

    @classmethod
    def parse(cls, obj: object, where: str = "") -> RoutedInstance:
        """Read one instance of the routing table."""
        fields = Fields(obj, where)
        return cls(
            id=fields.text("id", INSTANCE_ID),
            job_id=fields.text("job_id", JOB_ID),
            host=fields.text("host", HOST),
            port=fields.integer("port", 1024, 65535),
            certificate=fields.text("certificate", CERTIFICATE),
            key=fields.text("key", JOB_KEY),
            state=fields.choice("state", INSTANCE_STATES),
            stalled=fields.flag("stalled", False),
        )


@dataclass(frozen=True)
class RoutedModel(ModelFacts):
    """One model of the routing table; `expected_ready`: when its next instance may be ready (Unix time)."""

    status: str
    expected_ready: Optional[float]
    starting: int
    instances: tuple[RoutedInstance, ...]

    @classmethod
    def parse(cls, obj: object, where: str = "") -> RoutedModel:
        """Read one model of the routing table."""
        fields = Fields(obj, where)
        return cls(
            **cls.read(fields),
            status=fields.choice("status", STATUSES),
            expected_ready=fields.optional_number("expected_ready", 0, MAX_TIME),
            starting=fields.integer("starting", 0, MAX_COUNT),
            instances=tuple(RoutedInstance.parse(item, path) for path, item in fields.items("instances")),
        )


@dataclass(frozen=True)
class RoutingTable:
    """Models and their ready instances. Only the scheduler writes it; every relay reads it."""

    cluster: str
    generation: int
    written: float
    models: dict[str, RoutedModel]

    @classmethod
    def parse(cls, obj: object) -> RoutingTable:
        """Read a routing table."""
        fields = Fields(obj)
        fields.version()
        models = fields.mapping("models", MODEL_NAME)
        return cls(
            cluster=fields.text("cluster", GROUP),
            generation=fields.integer("generation", 0, 1 << 53),
            written=fields.number("written", 0, MAX_TIME),
            models={name: RoutedModel.parse(model, f"models.{name}") for name, model in models.items()},
        )

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)
