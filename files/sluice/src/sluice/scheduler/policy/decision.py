"""What goes into the policy's decisions (models, demand, orders, back-offs) and what comes out (actions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union

from sluice.scheduler.instances.instance import BASE, Instance
from sluice.scheduler.policy.bounds import Spent
from sluice.scheduler.policy.memory import Backoff, Memory

# Why instances are drained and cancelled.
IDLE = "idle"
REMOVED = "removed"
REPLACED = "replaced"
ORDERED = "by admin"
LEAVING = "leaving"
MADE_ROOM = "room for another model"
BUDGET = "the day's GPU-hours are spent"


@dataclass(frozen=True)
class ModelSettings:
    """What the policy needs of a model entry; times are in seconds.

    `max` bounds the base instances, `burst` the burst instances. `gpus` and `nodes` are those of one
    instance. `slurm_scope`: the account, partition and QOS of its base instances. Slurm limits these.
    """

    name: str
    digest: str
    min: int
    max: int
    concurrency: int
    idle_stop: float
    start_timeout: float
    priority: int = 0
    burst: int = 0
    gpus: int = 0
    nodes: int = 1
    warn: float = 0.0
    slurm_scope: str = ""
    stall_timeout: float = 900.0

    @property
    def most(self) -> int:
        """The maximum number of instances, base and burst together."""
        return self.max + self.burst


@dataclass(frozen=True)
class TotalDemand:
    """One model's requests, summed over all relays; `last` is the time of the last one (0: none known).

    `instances`: how many of the running requests each instance has. `answered`: when each instance last
    answered a request. Times in seconds since the epoch.
    """

    running: int = 0
    waiting: int = 0
    last: float = 0.0
    instances: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """The number of requests that run or wait."""
        return self.running + self.waiting

    def load(self, instance: str) -> int:
        """Return how many requests the instance may have: its own, and those that relays did not assign."""
        return self.instances.get(instance, 0) + max(0, self.running - sum(self.instances.values()))


@dataclass(frozen=True)
class Orders:
    """An administrator's orders for one model; times in seconds since the epoch.

    `drained`: the model must have no instances. Instances submitted before `restart`, in Slurm's queue too,
    and those named in `replace` must be replaced. `given`: when the last order was given that makes a failed
    model be tried again.
    """

    drained: bool = False
    restart: float = 0.0
    replace: frozenset[str] = frozenset()
    given: float = 0.0


@dataclass(frozen=True)
class Submit:
    """Submit one more instance of `model`, of this kind."""

    model: str
    kind: str = BASE


@dataclass(frozen=True)
class Drain:
    """Send no new requests to `instance`."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Resume:
    """Send new requests to a draining instance again."""

    instance: str


@dataclass(frozen=True)
class Cancel:
    """End the job of `instance`."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """Remove `instance` from the state: its job is gone."""

    instance: str


Action = Union[Submit, Drain, Resume, Cancel, Forget]


@dataclass(frozen=True)
class Situation:
    """Everything that a decision depends on.

    `unusable`: models whose entry exists but cannot be used now; they keep their instances. `orders`: the
    administrators'. `queue_known`: whether squeue answered in this tick. `spent`: how much the service has
    used of the bounds over time. `backoff`: how long Slurm accepts no submission at all; `scope_backoffs`:
    how long none of an account, partition and QOS.
    """

    models: Mapping[str, ModelSettings]
    instances: Sequence[Instance]
    demand: Mapping[str, TotalDemand] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    unusable: frozenset[str] = frozenset()
    queue_known: bool = True
    orders: Mapping[str, Orders] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    backoff: Backoff = field(default_factory=Backoff)
    scope_backoffs: Mapping[str, Backoff] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Actions in the order in which to carry them out, and what to remember.

    `wanted` is the number of instances that each model should have. `backoff` and `scope_backoffs` replace
    those of the situation.
    """

    actions: tuple[Action, ...]
    memory: dict[str, Memory]
    wanted: dict[str, int]
    backoff: Backoff = field(default_factory=Backoff)
    scope_backoffs: dict[str, Backoff] = field(default_factory=dict)
