"""Nodes on which jobs fail as soon as they start, left out of submissions for a while. Pure.

Such a node empties a queue: it is always free, so Slurm sends the next job there too. What must not happen is
that a broken model shuts healthy nodes out: failures of one definition on three different nodes are its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sluice.scheduler.instance import TERMINAL, Instance

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

    `seen` is when it last ran a job of ours.
    """

    seen: float
    failures: tuple[str, ...] = ()
    failed_at: float = 0.0


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
        changed[name] = Node(now, failures, now)
    return _bounded(changed)


def served(nodes: Nodes, instance: Instance, now: float) -> dict[str, Node]:
    """Return the nodes after `instance` became ready on its own: nothing is held against them."""
    return _bounded({**nodes, **{name: Node(now) for name in instance.nodes}})


def cleared(nodes: Nodes) -> dict[str, Node]:
    """Return the nodes with nothing held against any: Slurm has no others for a job."""
    return {name: replace(node, failures=(), failed_at=0.0) for name, node in nodes.items()}


def excluded(nodes: Nodes, limits: Limits, now: float) -> dict[str, float]:
    """Return the nodes to leave out now, with the time until when.

    At most half of the nodes ever seen, those that failed last; of a single one itself, because a node that
    kills its jobs is where the next one goes. Slurm refuses a job that no other node can take.
    """
    if not limits.failures:
        return {}
    widely = _widely(nodes)
    found = [
        (node.failed_at, name)
        for name, node in nodes.items()
        if now - node.failed_at < limits.exclude
        and sum(digest not in widely for digest in node.failures) >= limits.failures
    ]
    most = min(max(1, len(nodes) // 2), MOST_EXCLUDED)
    last = sorted(found, reverse=True)[:most]
    return {name: failed_at + limits.exclude for failed_at, name in sorted(last, key=lambda one: one[1])}


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
