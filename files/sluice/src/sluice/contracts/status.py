"""The answer of the `models` verb: what a relay says of its cluster's models. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.paths import read_capabilities
from sluice.contracts.words import (
    CACHE_ISOLATIONS,
    GROUP,
    MAX_COUNT,
    MAX_TIME,
    MODEL_NAME,
    PRINTABLE,
    STATUSES,
    USAGES,
)


@dataclass(frozen=True)
class ModelStatus:
    """One model as the relay describes it to the proxy; `created` as in the routing table.

    `running` counts the relay's requests on instances that take further ones, `draining` those on others.
    """

    name: str
    status: str
    ready: int
    starting: int
    running: int
    concurrency: int
    expected_ready: Optional[float]
    context_length: int
    capabilities: tuple[str, ...]
    groups: tuple[str, ...]
    description: str
    draining: int = 0
    usage: str = "none"
    cache_isolation: str = "none"
    created: int = 0

    @classmethod
    def parse(cls, obj: object, where: str = "") -> ModelStatus:
        """Read one model of a models answer."""
        fields = Fields(obj, where)
        return cls(
            name=fields.text("name", MODEL_NAME),
            status=fields.choice("status", STATUSES),
            ready=fields.integer("ready", 0, MAX_COUNT),
            starting=fields.integer("starting", 0, MAX_COUNT),
            running=fields.integer("running", 0, MAX_COUNT),
            concurrency=fields.integer("concurrency", 1, 100_000),
            expected_ready=fields.optional_number("expected_ready", 0, MAX_TIME),
            context_length=fields.integer("context_length", 1, 100_000_000),
            capabilities=read_capabilities(fields),
            groups=fields.texts("groups", GROUP),
            description=fields.text("description", PRINTABLE),
            draining=fields.integer("draining", 0, MAX_COUNT, 0),
            usage=fields.choice("usage", USAGES, "none"),
            cache_isolation=fields.choice("cache_isolation", CACHE_ISOLATIONS, "none"),
            created=fields.integer("created", 0, int(MAX_TIME), 0),
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
