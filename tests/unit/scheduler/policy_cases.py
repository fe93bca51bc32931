"""Instances in every phase, and one decision about them: what the policy's tests are written with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.policy import (
    Decision,
    Memory,
    ModelSettings,
    Orders,
    SiteSettings,
    Situation,
    Spent,
    TotalDemand,
    decide,
)

NOW = 1_795_000_000.0
SETTINGS = SiteSettings(max_instances=8)
MODEL = ModelSettings("m", "d1", min=0, max=2, concurrency=4, idle_stop=900, start_timeout=300)
RECORD = JobRecord("m-00000001", "00000001", "1", "c1", 20001, "pem", "key", NOW)


def instance(number: int = 1, digest: str = "d1", **changes: Any) -> Instance:
    """Return a submitted, pending instance of model m."""
    nonce = f"{number:08x}"
    made = Instance(f"m-{nonce}", "m", nonce, digest, NOW - 1000 + number, job_id=str(number))
    return replace(made, **{"job_state": "PENDING", **changes})


def starting(number: int = 1, digest: str = "d1", **changes: Any) -> Instance:
    """Return an instance whose job runs since 50 seconds and is not ready."""
    fields = {"job_state": "RUNNING", "started": NOW - 50, "nodes": ("c1",), **changes}
    return replace(instance(number, digest), **fields)


def ready(number: int = 1, digest: str = "d1", **changes: Any) -> Instance:
    """Return an instance that has been ready for 500 seconds."""
    fields = {"started": NOW - 600, "ready_at": NOW - 500, "record": RECORD, **changes}
    return starting(number, digest, **fields)


def decided(
    instances: Sequence[Instance] = (),
    *,
    model: Optional[ModelSettings] = MODEL,
    demand: Optional[TotalDemand] = None,
    memory: Optional[Memory] = None,
    known: bool = True,
    unusable: bool = False,
    now: float = NOW,
    settings: SiteSettings = SETTINGS,
    orders: Optional[Orders] = None,
    spent: Optional[Spent] = None,
) -> Decision:
    """Decide for model m alone."""
    situation = Situation(
        models={} if model is None or unusable else {"m": model},
        instances=tuple(instances),
        demand={} if demand is None else {"m": demand},
        memory={"m": memory or Memory(digest="d1")},
        unusable=frozenset({"m"} if unusable else ()),
        queue_known=known,
        orders={} if orders is None else {"m": orders},
        spent=spent or Spent(),
    )
    return decide(situation, settings, now)
