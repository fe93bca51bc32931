"""The policy over whole histories: a small pure Slurm that fails in every way, and what always holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.records import JobRecord
from sluice.scheduler.instance import (
    ABSENT_ANSWERS,
    TERMINAL,
    Instance,
    Phase,
    QueueJob,
    answered,
    missing,
    phase,
    published,
    seen,
    unanswered,
)
from sluice.scheduler.policy import (
    Cancel,
    Decision,
    Demand,
    Forget,
    Memory,
    Model,
    Orders,
    Settings,
    Situation,
    Submit,
    decide,
)
from sluice.scheduler.act import marked
from sluice.scheduler.observe import own_job

SETTLE = 30.0
SETTINGS = Settings(max_instances=12)
# How long a submission whose sbatch was cut off may lie in the controller's inbox.
ON_ITS_WAY = 25.0
ENDS = ("FAILED", "NODE_FAIL", "TIMEOUT", "CANCELLED", "PREEMPTED")


@dataclass
class World:
    """A Slurm, its fronts, and the scheduler's memory of them; `step` is one tick."""

    model: Model
    now: float = 1_795_000_000.0
    jobs: dict[str, QueueJob] = field(default_factory=dict)
    healthy: set[str] = field(default_factory=set)
    instances: dict[str, Instance] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    submitted: int = 0
    arrives: dict[str, float] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)

    def order(self, order: str) -> None:
        """Give an administrator's order."""
        if order == "drain":
            self.orders = replace(self.orders, drained=True)
        elif order == "resume":
            self.orders = replace(self.orders, drained=False, given=self.now)
        elif order == "restart":
            self.orders = replace(self.orders, restart=self.now, given=self.now)
        elif order == "restart one":
            self.orders = replace(self.orders, replace=frozenset(list(self.instances)[:1]))

    def alive(self) -> list[QueueJob]:
        """Return the jobs that have not ended."""
        return [job for job in self.jobs.values() if job.state not in TERMINAL]

    def visible(self) -> list[QueueJob]:
        """Return the jobs that the controller has taken up."""
        return [job for name, job in self.jobs.items() if self.arrives.get(name, 0.0) <= self.now]

    def observe(self, visible: Optional[Iterable[QueueJob]], scontrol_works: bool) -> None:
        """Fold in a squeue answer (None: it failed), scontrol's answers and probes."""
        for key, instance in self.instances.items():
            found = instance if visible is None else self.follow(instance, list(visible), scontrol_works)
            if found.running and found.record is None and found.id in self.healthy:
                found = published(found, record(found))
            if found.record is not None:
                answers = found.id in self.healthy
                found = answered(found, self.now) if answers else unanswered(found, self.now)
            self.instances[key] = found

    def follow(self, instance: Instance, visible: list[QueueJob], scontrol_works: bool) -> Instance:
        """Fold in what one successful squeue answer says of one instance."""
        job = own_job(instance, [one for one in visible if one.name == instance.name])
        if job is not None:
            return seen(instance, job)
        found = missing(instance, self.now, SETTLE)
        if found.absent < ABSENT_ANSWERS or not found.job_id or not scontrol_works:
            return found
        really = self.jobs.get(instance.name)
        return replace(found, invalid=True) if really is None else seen(found, really)

    def act(self, decision: Decision, sbatch: str) -> None:
        """Carry out a decision; `sbatch` says how its answers come back."""
        for action in decision.actions:
            if isinstance(action, Submit):
                self.submit(sbatch)
            elif isinstance(action, Forget):
                del self.instances[action.instance]
            else:
                instance = marked(self.instances[action.instance], action, self.now)
                self.instances[instance.id] = instance
                if isinstance(action, Cancel) and instance.name in self.jobs:
                    self.end(instance.name, "CANCELLED")
        self.memory = decision.memory

    def submit(self, sbatch: str) -> None:
        """Submit one job: `ok`, `lost` (Slurm has it, the answer is lost) or `refused`."""
        self.submitted += 1
        nonce = f"{self.submitted:08x}"
        made = Instance(f"m-{nonce}", "m", nonce, self.model.digest, self.now)
        if sbatch != "refused":
            job_id = str(self.submitted)
            self.jobs[made.name] = QueueJob(job_id, made.name, "PENDING")
            if sbatch == "ok":
                made = replace(made, job_id=job_id)
            else:
                made = replace(made, submit_error="timed out")
                self.arrives[made.name] = self.now + ON_ITS_WAY
        else:
            made = replace(made, submit_error="exit status 1")
        self.instances[made.id] = made

    def end(self, name: str, state: str) -> None:
        """Let a job end."""
        self.jobs[name] = replace(self.jobs[name], state=state)
        self.healthy.discard(name.split(":", 1)[1])

    def progress(self, name: str, change: str) -> None:
        """Let one job start, become healthy or sick, be requeued, end, or vanish from Slurm's memory."""
        job = self.jobs[name]
        instance_id = name.split(":", 1)[1]
        if job.state in TERMINAL:
            if change == "vanish":
                del self.jobs[name]
        elif change == "start" and job.state == "PENDING":
            self.jobs[name] = replace(
                job, state="RUNNING", started=self.now, ends=self.now + 86_400, nodes=("c1",)
            )
        elif change == "ready" and job.state == "RUNNING":
            self.healthy.add(instance_id)
        elif change == "sick":
            self.healthy.discard(instance_id)
        elif change == "requeue":
            self.jobs[name] = replace(job, state="PENDING", started=None, ends=None, nodes=())
            self.healthy.discard(instance_id)
        elif change in ENDS:
            self.end(name, change)


def record(instance: Instance) -> JobRecord:
    """Return the record that the instance's current run publishes."""
    started = instance.started or 0.0
    return JobRecord(instance.id, instance.nonce, instance.job_id, "c1", 20001, "pem", "key", started)


changes = st.sampled_from(["", "", "start", "start", "ready", "ready", "sick", "requeue", "vanish", *ENDS])
steps = st.fixed_dictionaries(
    {
        "seconds": st.sampled_from([1.0, 2.0, 2.0, 8.0, 15.0, 31.0, 120.0, 1000.0]),
        "queue": st.sampled_from(["known", "known", "known", "unknown", "empty"]),
        "scontrol": st.booleans(),
        "sbatch": st.sampled_from(["ok", "ok", "ok", "lost", "refused"]),
        "asked": st.integers(0, 12),
        "digest": st.sampled_from(["", "", "", "d1", "d2", "d3"]),
        "order": st.sampled_from(["", "", "", "", "drain", "resume", "restart", "restart one"]),
        "changes": st.lists(changes, min_size=4, max_size=4),
    }
)
models = st.builds(
    Model,
    name=st.just("m"),
    digest=st.just("d1"),
    min=st.integers(0, 1),
    max=st.integers(1, 3),
    concurrency=st.just(4),
    idle_stop=st.sampled_from([60.0, 900.0]),
    start_timeout=st.sampled_from([60.0, 600.0]),
)


def check(world: World, decision: Decision, known: bool, before: dict[str, Instance]) -> None:
    """Assert what holds after every tick."""
    submissions = sum(isinstance(action, Submit) for action in decision.actions)
    if not known:
        assert decision.actions == ()
    usable = [
        one
        for one in before.values()
        if one.draining_since is None
        and one.digest == world.model.digest
        and one.id not in world.orders.replace
        and (one.started is None or one.created >= world.orders.restart)
        and phase(one) in (Phase.SUBMITTING, Phase.PENDING, Phase.STARTING, Phase.READY)
    ]
    assert submissions <= max(0, decision.wanted["m"] - len(usable)), "two submissions for one need"
    assert decision.wanted["m"] <= (0 if world.orders.drained else world.model.max)
    alive = world.alive()
    assert len(alive) <= world.model.max + 1
    assert len(world.instances) <= SETTINGS.max_instances
    for job in alive:
        assert any(one.name == job.name for one in world.instances.values()), f"{job.name} was forgotten"


@settings(max_examples=300, deadline=None)
@given(models, st.lists(steps, min_size=1, max_size=40))
def test_no_history_brings_duplicates_orphans_or_more_than_max(model: Model, history: list[dict]) -> None:
    world = World(model)
    for step in history:
        world.now += step["seconds"]
        if step["digest"]:
            world.model = replace(world.model, digest=step["digest"])
        world.order(step["order"])
        for name, change in zip(list(world.jobs), step["changes"]):
            world.progress(name, change)
        # An answer that is empty though Slurm has jobs: it counts as an answer, and must not be believed.
        visible = {"known": world.visible(), "empty": [], "unknown": None}[step["queue"]]
        if step["queue"] == "empty" and any(not one.job_id for one in world.instances.values()):
            visible = world.visible()
        world.observe(visible, step["scontrol"])
        before = dict(world.instances)
        demand = {"m": Demand(step["asked"], 0, world.now if step["asked"] else 0.0)}
        known = visible is not None
        situation = Situation(
            {"m": world.model},
            tuple(before.values()),
            demand,
            world.memory,
            known=known,
            orders={"m": world.orders},
        )
        decision = decide(situation, SETTINGS, world.now)
        world.act(decision, step["sbatch"])
        check(world, decision, known, before)


@settings(max_examples=100, deadline=None)
@given(models, st.lists(st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]), min_size=1, max_size=30))
def test_an_outage_of_any_length_cancels_forgets_and_duplicates_nothing(
    model: Model, outage: list[float]
) -> None:
    world = World(replace(model, min=1))
    for change in ("", "start", "ready", ""):
        world.now += 2
        for name in list(world.jobs):
            world.progress(name, change)
        world.observe(list(world.jobs.values()), True)
        decision = decide(
            Situation({"m": world.model}, tuple(world.instances.values()), {}, world.memory),
            SETTINGS,
            world.now,
        )
        world.act(decision, "ok")
    before = world.instances.keys()
    for seconds in outage:
        world.now += seconds
        world.observe(None, False)
        instances = tuple(world.instances.values())
        decision = decide(
            Situation({"m": world.model}, instances, {}, world.memory, known=False), SETTINGS, world.now
        )
        assert decision.actions == ()
        assert all(phase(one) is Phase.READY for one in instances)
    world.observe(list(world.jobs.values()), True)
    assert world.instances.keys() == before
    assert world.submitted == len(world.alive()) == world.model.min
