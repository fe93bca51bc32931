"""The routing table: `routing-table.json`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.paths import read_capabilities
from sluice.contracts.words import (
    CACHE_ISOLATIONS,
    CERTIFICATE,
    GROUP,
    HOST,
    INSTANCE_ID,
    JOB_ID,
    JOB_KEY,
    MAX_COUNT,
    MAX_TIME,
    MODEL_NAME,
    PRINTABLE,
    STATUSES,
    USAGES,
)

INSTANCE_STATES = ("ready", "draining")


@dataclass(frozen=True)
class Instance:
    """One routable instance, with the secrets to reach it; `stalled`: its engine gives nothing now."""

    id: str
    job_id: str
    host: str
    port: int
    certificate: str
    key: str
    state: str
    stalled: bool = False

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Instance:
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
class RoutedModel:
    """One model of the routing table; `created` is when its cluster first had it, 0 if nobody knows."""

    status: str
    expected_ready: Optional[float]
    context_length: int
    capabilities: tuple[str, ...]
    groups: tuple[str, ...]
    description: str
    concurrency: int
    starting: int
    instances: tuple[Instance, ...]
    usage: str = "none"
    cache_isolation: str = "none"
    created: int = 0

    @classmethod
    def parse(cls, obj: object, where: str = "") -> RoutedModel:
        """Read one model of the routing table."""
        fields = Fields(obj, where)
        return cls(
            status=fields.choice("status", STATUSES),
            expected_ready=fields.optional_number("expected_ready", 0, MAX_TIME),
            context_length=fields.integer("context_length", 1, 100_000_000),
            capabilities=read_capabilities(fields),
            groups=fields.texts("groups", GROUP),
            description=fields.text("description", PRINTABLE),
            concurrency=fields.integer("concurrency", 1, 100_000),
            starting=fields.integer("starting", 0, MAX_COUNT),
            instances=tuple(Instance.parse(item, path) for path, item in fields.items("instances")),
            # Absent in what an older scheduler wrote.
            usage=fields.choice("usage", USAGES, "none"),
            cache_isolation=fields.choice("cache_isolation", CACHE_ISOLATIONS, "none"),
            created=fields.integer("created", 0, int(MAX_TIME), 0),
        )


@dataclass(frozen=True)
class RoutingTable:
    """Models and their ready instances: written by the scheduler alone, read by every relay."""

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
