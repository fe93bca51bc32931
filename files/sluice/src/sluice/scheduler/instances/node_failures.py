"""Nodes on which jobs fail as soon as they start, excluded from submissions for a while. Pure.

Such a node empties a queue: it is always free, so Slurm sends the next job there too. What must not happen is
that a wrong definition shuts healthy nodes out. So only a definition that became ready on another node is
believed when it fails on one. What never became ready elsewhere leaves the node out for itself alone, to try
others; and a definition that fails on three different nodes is broken itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from sluice.scheduler.instances.instance import TERMINAL, Instance

# A job that ended this many seconds after its start ended "at once".
EARLY = 300.0
# Ends that may be the node's doing; the others were somebody's will, or a limit's.
BLAMED = TERMINAL - {"CANCELLED", "DEADLINE", "PREEMPTED", "REVOKED", "TIMEOUT", "OUT_OF_MEMORY"}
WIDELY = 3
MOST_FAILURES = 16
MOST_NODES = 10_000
# More names than that would make a command line of their own kind.
MOST_EXCLUDED = 64


@dataclass(frozen=True)
class Node:
    """What is remembered of a node: digests of the starts that failed there in a row, the last one's time.

    `seen` is when it last ran a job of ours, `ready` the last digests that became ready there. The digests in
    `allowed` go there though it is left out: Slurm has no other node for them.
    """

    seen: float
    failures: tuple[str, ...] = ()
    failed_at: float = 0.0
    ready: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """`failures` starts in a row (0: nodes are never left out) and for how many seconds (`exclude`)."""

    failures: int
    exclude: float


Nodes = Mapping[str, Node]


def failed_early(instance: Instance, now: float) -> bool:
    """Whether a gone instance's job failed at once on the nodes that it had."""
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
    """Return the nodes after `instance` became ready on its own: nothing is held against them."""
    changed = dict(nodes)
    for name in instance.nodes:
        before = changed.get(name, Node(now))
        ready = tuple(digest for digest in before.ready if digest != instance.digest)
        changed[name] = Node(now, ready=(*ready, instance.digest)[-MOST_FAILURES:])
    return _bounded(changed)


def allowed(nodes: Nodes, names: Iterable[str], digest: str) -> dict[str, Node]:
    """Return the nodes with those of these names open to a definition: Slurm has no others for it."""
    changed = dict(nodes)
    for name in set(names) & nodes.keys():
        node = nodes[name]
        kept = tuple(one for one in node.allowed if one != digest)
        changed[name] = replace(node, allowed=(*kept, digest)[-MOST_FAILURES:])
    return changed


def readmitted(
    nodes: dict[str, Node], everywhere: Optional[float], times: Mapping[str, float]
) -> dict[str, Node]:
    """Return the nodes without what failed there before an administrator let them in again.

    `times` are those of single nodes, `everywhere` that of all; the very same nodes where that is no news.
    """
    changed = {
        name: replace(node, failures=(), failed_at=0.0, allowed=())
        for name, node in nodes.items()
        if node.failures and node.failed_at <= max(everywhere or 0.0, times.get(name, 0.0))
    }
    return {**nodes, **changed} if changed else nodes


def excluded(nodes: Nodes, limits: Limits, now: float, digest: str = "") -> dict[str, float]:
    """Return the nodes to leave out now, with the time until when: for a definition, or for all ("").

    At most half of the nodes ever seen, those that failed last; of a single one itself, because a node that
    kills its jobs is where the next one goes. Slurm refuses a job that no other node can take.
    """
    if not limits.failures:
        return {}
    fresh = {
        name: one for name, one in nodes.items() if one.failures and now - one.failed_at < limits.exclude
    }
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
        >= limits.failures
    ]
    most = min(max(1, len(nodes) // 2), MOST_EXCLUDED)
    last = sorted(found, reverse=True)[:most]
    return {name: failed_at + limits.exclude for failed_at, name in sorted(last, key=lambda one: one[1])}


def _ready(nodes: Nodes) -> dict[str, set[str]]:
    """Return on which nodes each digest became ready."""
    found: dict[str, set[str]] = {}
    for name, node in nodes.items():
        for digest in node.ready:
            found.setdefault(digest, set()).add(name)
    return found


def _elsewhere(ready: Mapping[str, set[str]], digest: str, name: str) -> bool:
    """Whether a definition became ready on another node than this one."""
    return bool(ready.get(digest, set()) - {name})


def _widely(nodes: Nodes) -> set[str]:
    """Return the digests that are broken themselves: they failed on many nodes, or on all of several."""
    counts = Counter(digest for node in nodes.values() for digest in set(node.failures))
    many = max(2, min(WIDELY, len(nodes)))
    return {digest for digest, count in counts.items() if count >= many}


def _bounded(nodes: dict[str, Node]) -> dict[str, Node]:
    """Keep the nodes seen last."""
    surplus = len(nodes) - MOST_NODES
    if surplus <= 0:
        return nodes
    oldest = {name for _, name in sorted((node.seen, name) for name, node in nodes.items())[:surplus]}
    return {name: node for name, node in nodes.items() if name not in oldest}
