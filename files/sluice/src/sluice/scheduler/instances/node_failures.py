"""Nodes on which jobs fail as soon as they start, excluded from submissions for a while. Pure.

Such a node can fail every job of a queue: it is always free, so Slurm sends the next job there too. But a
wrong definition must not exclude healthy nodes. So a failure counts against a node for all models only if
the same definition became ready on another node. A definition that was never ready elsewhere excludes the
node only for itself, to try others. A definition that fails on three different nodes is itself wrong.

A definition is a model's entry and script, known by its digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from sluice.scheduler.instances.instance import TERMINAL, Instance

# A job that ended within so many seconds after its start failed "at once".
EARLY = 300.0
# Ends that the node may have caused; the others come from a person, a preemption or a limit.
BLAMED = TERMINAL - {"CANCELLED", "DEADLINE", "PREEMPTED", "REVOKED", "TIMEOUT", "OUT_OF_MEMORY"}
WIDELY = 3
MOST_FAILURES = 16
MOST_NODES = 10_000
# More names would make sbatch's command line very long.
MOST_EXCLUDED = 64


@dataclass(frozen=True)
class Node:
    """What is remembered of a node; times in seconds since the epoch.

    `seen`: when it last ran one of our jobs. `failures`: digests of the starts that failed there in a row,
    the last at `failed_at`. `ready`: the last digests that became ready there. `allowed`: digests that may
    run there although the node is excluded, because Slurm has no other node for them.
    """

    seen: float
    failures: tuple[str, ...] = ()
    failed_at: float = 0.0
    ready: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExclusionRule:
    """`failures` failed starts in a row (0: never) exclude a node for `exclude` seconds."""

    failures: int
    exclude: float


Nodes = Mapping[str, Node]


def failed_early(instance: Instance, now: float) -> bool:
    """Whether a gone instance's job failed at once on its nodes."""
    if instance.cancelled_at is not None or instance.draining_since is not None or not instance.nodes:
        return False
    if instance.job_state not in BLAMED or instance.ready_at is not None or instance.started is None:
        return False
    ended = min(now, instance.ends or now)
    return ended - instance.started <= EARLY


def failed(nodes: Nodes, instance: Instance, now: float) -> dict[str, Node]:
    """Return the nodes with one more failed start on those of `instance`."""
    changed = dict(nodes)
    for name in instance.nodes:
        before = changed.get(name, Node(now))
        failures = (*before.failures, instance.digest)[-MOST_FAILURES:]
        changed[name] = replace(before, seen=now, failures=failures, failed_at=now)
    return _bounded(changed)


def served(nodes: Nodes, instance: Instance, now: float) -> dict[str, Node]:
    """Return the nodes after `instance` became ready: its own nodes have no failures any more."""
    changed = dict(nodes)
    for name in instance.nodes:
        before = changed.get(name, Node(now))
        ready = tuple(digest for digest in before.ready if digest != instance.digest)
        changed[name] = Node(now, ready=(*ready, instance.digest)[-MOST_FAILURES:])
    return _bounded(changed)


def allowed(nodes: Nodes, names: Iterable[str], digest: str) -> dict[str, Node]:
    """Return the nodes after those in `names` were allowed for a definition: Slurm has no others for it."""
    changed = dict(nodes)
    for name in set(names) & nodes.keys():
        node = nodes[name]
        kept = tuple(one for one in node.allowed if one != digest)
        changed[name] = replace(node, allowed=(*kept, digest)[-MOST_FAILURES:])
    return changed


def readmitted(
    nodes: dict[str, Node], everywhere: Optional[float], times: Mapping[str, float]
) -> dict[str, Node]:
    """Return the nodes without the failures from before an administrator readmitted them.

    `times`: when single nodes were readmitted; `everywhere`: when all were. Returns the same object if
    nothing changed.
    """
    changed = {
        name: replace(node, failures=(), failed_at=0.0, allowed=())
        for name, node in nodes.items()
        if node.failures and node.failed_at <= max(everywhere or 0.0, times.get(name, 0.0))
    }
    return {**nodes, **changed} if changed else nodes


def excluded(nodes: Nodes, rule: ExclusionRule, now: float, digest: str = "") -> dict[str, float]:
    """Return the nodes to exclude now, and until when: for one definition, or for all models (digest "").

    At most half of the known nodes are excluded, those that failed last. If only one node is known, it may
    be excluded: Slurm would send it the next job too. Slurm refuses a job that no other node can take.
    """
    if not rule.failures:
        return {}
    fresh = {name: one for name, one in nodes.items() if one.failures and now - one.failed_at < rule.exclude}
    if not fresh:
        return {}
    widely, ready = _widely(nodes), _ready(nodes)
    found = [
        (node.failed_at, name)
        for name, node in fresh.items()
        if not (digest and digest in node.allowed)
        and sum(
            one not in widely and (one == digest or _elsewhere(ready, one, name)) for one in node.failures
        )
        >= rule.failures
    ]
    most = min(max(1, len(nodes) // 2), MOST_EXCLUDED)
    last = sorted(found, reverse=True)[:most]
    return {name: failed_at + rule.exclude for failed_at, name in sorted(last, key=lambda one: one[1])}


def _ready(nodes: Nodes) -> dict[str, set[str]]:
    """Return, by digest, the nodes on which it became ready."""
    found: dict[str, set[str]] = {}
    for name, node in nodes.items():
        for digest in node.ready:
            found.setdefault(digest, set()).add(name)
    return found


def _elsewhere(ready: Mapping[str, set[str]], digest: str, name: str) -> bool:
    """Whether a definition became ready on another node than this one."""
    return bool(ready.get(digest, set()) - {name})


def _widely(nodes: Nodes) -> set[str]:
    """Return the digests that are themselves wrong: they failed on three nodes, or on both of two."""
    counts = Counter(digest for node in nodes.values() for digest in set(node.failures))
    many = max(2, min(WIDELY, len(nodes)))
    return {digest for digest, count in counts.items() if count >= many}


def _bounded(nodes: dict[str, Node]) -> dict[str, Node]:
    """Keep only the MOST_NODES nodes that were seen last."""
    surplus = len(nodes) - MOST_NODES
    if surplus <= 0:
        return nodes
    oldest = {name for _, name in sorted((node.seen, name) for name, node in nodes.items())[:surplus]}
    return {name: node for name, node in nodes.items() if name not in oldest}
