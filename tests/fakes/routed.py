"""A model of the routing table, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sluice.contracts.routing import RoutedInstance, RoutedModel


def routed(instances: Sequence[RoutedInstance], **changes: Any) -> RoutedModel:
    """Return a model with these instances: ready if there are any, sleeping otherwise."""
    fields: dict[str, Any] = {
        "status": "ready" if instances else "sleeping",
        "expected_ready": None,
        "context_length": 2048,
        "capabilities": ("chat", "completions"),
        "groups": ("all",),
        "description": "",
        "concurrency": 8,
        "starting": 0,
        "instances": tuple(instances),
        "usage": "none",
        "cache_isolation": "none",
        "created": 0,
    }
    return RoutedModel(**{**fields, **changes})
