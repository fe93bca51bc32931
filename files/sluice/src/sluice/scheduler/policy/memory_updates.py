"""Changes of a model's memory: after refused submissions, and without earlier failures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sluice.scheduler.instances.instance import BURST, Instance
from sluice.scheduler.policy.memory import Memory
from sluice.scheduler.policy.refusal import Cause, backoff_after

# Refusals of a burst instance: they make only this model's burst instances wait.
BURSTS_OWN = (Cause.MODEL, Cause.LIMIT, Cause.SITE, Cause.TRANSIENT)


def without_failures(known: Memory, digest: str) -> Memory:
    """Return the memory without earlier failures: the digest changed, or an administrator ordered it."""
    return Memory(
        digest=digest,
        trend=known.trend,
        last=known.last,
        load_times=known.load_times,
        queue_times=known.queue_times,
        ordered=known.ordered,
        refused=replace(known.refused, count=0, until=0.0, reason=""),
        burst_refused=replace(known.burst_refused, count=0, until=0.0, reason=""),
        short_since=known.short_since,
        refused_at=known.refused_at,
        since=known.since,
    )


def with_refusals(memory: Memory, mine: Sequence[Instance], first: float, now: float) -> Memory:
    """Return the memory after Slurm refused submissions: each refusal doubles the wait.

    `mine`: the model's instances, gone ones included. `first`: the shortest wait, in seconds.
    """
    base = [one for one in mine if one.kind != BURST]
    burst = [one for one in mine if one.kind == BURST]
    ours = backoff_after(memory.refused, base, (Cause.MODEL,), first, now)
    bursts = backoff_after(memory.burst_refused, burst, BURSTS_OWN, first, now)
    last = max([memory.refused_at, *(one.created for one in mine if one.submit_error)])
    if ours is memory.refused and bursts is memory.burst_refused and last <= memory.refused_at:
        return memory
    return replace(memory, refused=ours, burst_refused=bursts, refused_at=last)
