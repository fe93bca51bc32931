"""The data of the policy's decisions: models, demand, orders and limits in, actions out. Pure data."""

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
class Model:
    """What the policy needs of a model entry; times are in seconds.

    `max` bounds base instances, `burst` those beyond them that Slurm may take back. `gpus` and `nodes` are
    what one instance takes. `charge` names the account, partition and QOS of its base instances.
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
    charge: str = ""
    stall_timeout: float = 900.0

    @property
    def most(self) -> int:
        """The most instances that demand may call for."""
        return self.max + self.burst


@dataclass(frozen=True)
class Demand:
    """Requests of one model over all relays; `last` is the time of the last one (0: none known).

    `instances`: how many of those running each instance has; `answered`: when an instance last answered one
    (seconds since the epoch, rounded down).
    """

    running: int = 0
    waiting: int = 0
    last: float = 0.0
    instances: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """Requests that run or wait."""
        return self.running + self.waiting

    def load(self, instance: str) -> int:
        """Return how many requests the instance may have: its own, and those that no relay placed."""
        return self.instances.get(instance, 0) + max(0, self.running - sum(self.instances.values()))


@dataclass(frozen=True)
class Orders:
    """What an administrator ordered of one model.

    `drained`: it is to have no instances. Instances that were submitted before the time `restart` are to be
    replaced, those in Slurm's queue too, and those that `replace` names. `given` is the time of the last
    order after which a failed model is to be tried again.
    """

    drained: bool = False
    restart: float = 0.0
    replace: frozenset[str] = frozenset()
    given: float = 0.0


@dataclass(frozen=True)
class Submit:
    """Start one more instance of `model`, of this kind."""

    model: str
    kind: str = BASE


@dataclass(frozen=True)
class Drain:
    """Send no new requests to `instance`."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Resume:
    """Send requests to a draining instance again."""

    instance: str


@dataclass(frozen=True)
class Cancel:
    """End the job of `instance`."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """The job of `instance` is gone."""

    instance: str


Action = Union[Submit, Drain, Resume, Cancel, Forget]


@dataclass(frozen=True)
class Situation:
    """All that a decision rests on.

    `held` names models whose entry exists but cannot be used now: they keep what they have. `orders` are the
    administrators'. `known` says whether squeue answered in this tick. `spent`: what the service has taken so
    far of what is bounded over time. `limits`: how long Slurm takes no submission of anybody's;
    `charges`: how long none of an account, partition and QOS.
    """

    models: Mapping[str, Model]
    instances: Sequence[Instance]
    demand: Mapping[str, Demand] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    known: bool = True
    orders: Mapping[str, Orders] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    limits: Backoff = field(default_factory=Backoff)
    charges: Mapping[str, Backoff] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Actions in the order in which they are to be carried out, and what to remember.

    `wanted` is the number of instances each model should have; `limits` and `charges` the new values of the
    situation's.
    """

    actions: tuple[Action, ...]
    memory: dict[str, Memory]
    wanted: dict[str, int]
    limits: Backoff = field(default_factory=Backoff)
    charges: dict[str, Backoff] = field(default_factory=dict)
