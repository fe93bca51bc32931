"""What every part on a request's path may know about a model: fields that several documents share. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sluice.contracts.fields import Fields
from sluice.contracts.paths import read_capabilities
from sluice.contracts.values import CACHE_ISOLATIONS, GROUP, MAX_TIME, PRINTABLE, USAGES


@dataclass(frozen=True)
class ModelFacts:
    """What the scheduler says about a model; relay and proxy pass it on unchanged.

    `concurrency`: the places of one instance. `usage`, `cache_isolation`: as in the model entry. `created`:
    when its cluster first had it (Unix time), 0 if that is not known.
    """

    context_length: int
    capabilities: tuple[str, ...]
    groups: tuple[str, ...]
    description: str
    concurrency: int
    usage: str
    cache_isolation: str
    created: int

    @staticmethod
    def read(fields: Fields) -> dict[str, Any]:
        """Read these fields from a document that may have others too. Raises RecordError."""
        return {
            "context_length": fields.integer("context_length", 1, 100_000_000),
            "capabilities": read_capabilities(fields),
            "groups": fields.texts("groups", GROUP),
            "description": fields.text("description", PRINTABLE),
            "concurrency": fields.integer("concurrency", 1, 100_000),
            # An older scheduler or relay does not write these.
            "usage": fields.choice("usage", USAGES, "none"),
            "cache_isolation": fields.choice("cache_isolation", CACHE_ISOLATIONS, "none"),
            "created": fields.integer("created", 0, int(MAX_TIME), 0),
        }

    def facts(self) -> dict[str, Any]:
        """Return these fields by name, for another document."""
        return {name: getattr(self, name) for name in ModelFacts.__dataclass_fields__}
