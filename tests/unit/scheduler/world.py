"""A small pure Slurm that fails in every way, its fronts with their requests, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Optional

from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.instance import (
    ABSENT_ANSWERS,
    BURST,
    SUSPENDED,
    TERMINAL,
    Instance,
    Phase,
    QueueJob,
    answered,
    gone,
    hindered,
    missing,
    phase,
    published,
    seen,
    unanswered,
)
from sluice.scheduler.instances.matching import own_job
from sluice.scheduler.loop.act import marked
from sluice.scheduler.policy import ledger
from sluice.scheduler.policy.policy import (
    Backoff,
    Cancel,
    Decision,
    Forget,
    Memory,
    ModelSettings,
    Orders,
    SiteSettings,
    Situation,
    Submit,
    TotalDemand,
    decide,
)

GRACE = 30.0
# How long a submission whose sbatch was cut off may lie in the controller's inbox.
ON_ITS_WAY = 25.0
ENDS = ("FAILED", "NODE_FAIL", "TIMEOUT", "CANCELLED", "PREEMPTED")
HOLDS = {
    "hold": "JobHeldAdmin",
    "release": "Priority",
    "stuck": "launch failed requeued held",
    "maintenance": "ReqNodeNotAvail, Reserved for maintenance",
    "no account": "InvalidAccount",
}
REFUSALS = {
    "invalid": "exit status 1: Invalid partition name specified",
    "limit": "exit status 1: QOSMaxSubmitJobPerUserLimit",
    "site": "exit status 1: Slurm temporarily unable to accept job, sleeping and retrying",
    "away": "exit status 1: Unable to contact slurm controller (connect failure)",
    "plugin": "exit status 1: Unspecified error",
}


@dataclass
class World:
    """Everything at one moment. `open` counts each instance's requests, `waiting` each model's."""

    models: dict[str, ModelSettings]
    settings: SiteSettings
    wall_time: float = 7_200.0
    now: float = 1_795_000_000.0
    jobs: dict[str, QueueJob] = field(default_factory=dict)
    healthy: set[str] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)
    hanging: dict[str, float] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    scope_backoffs: dict[str, Backoff] = field(default_factory=dict)
    orders: dict[str, Orders] = field(default_factory=dict)
    account: ledger.Ledger = field(default_factory=ledger.Ledger)
    arrives: dict[str, float] = field(default_factory=dict)
    open_before: dict[str, int] = field(default_factory=dict)
    submitted: int = 0

    def order(self, name: str, order: str) -> None:
        """Give an administrator's order."""
        before = self.orders.get(name, Orders())
        mine = [one.id for one in self.instances.values() if one.model == name]
        self.orders[name] = {
            "drain": replace(before, drained=True),
            "resume": replace(before, drained=False, given=self.now),
            "restart": replace(before, restart=self.now, given=self.now),
            "restart one": replace(before, replace=frozenset(mine[:1])),
        }.get(order, before)

    def alive(self, model: str = "") -> list[QueueJob]:
        """Return the jobs, of one model or all, that have not ended."""
        prefix = f"sluice:{model}-" if model else ""
        return [
            job for job in self.jobs.values() if job.state not in TERMINAL and job.name.startswith(prefix)
        ]

    def visible(self) -> list[QueueJob]:
        """Return the jobs that the controller has taken up."""
        return [job for name, job in self.jobs.items() if self.arrives.get(name, 0.0) <= self.now]

    # --- what the scheduler sees and does --------------------------------------------------------------

    def observe(self, visible: Optional[Iterable[QueueJob]], scontrol_works: bool = True) -> None:
        """Fold in a squeue answer (None: it failed), scontrol's answers and probes."""
        before = dict(self.instances)
        by_name = None if visible is None else {job.name: job for job in visible}
        for key, instance in self.instances.items():
            found = instance if by_name is None else self.follow(instance, by_name, scontrol_works)
            if found.running and found.record is None and found.id in self.healthy:
                found = published(found, record(found))
            if found.record is not None:
                found = self.probed(found)
            self.instances[key] = found
        self.instances = {key: hindered(one, self.now) for key, one in self.instances.items()}
        self.account = ledger.advance(self.account, ledger.runs(before, self.instances), self.now)

    def probed(self, instance: Instance) -> Instance:
        """Fold in one probe of a front."""
        if instance.id not in self.healthy or self.jobs[instance.name].state in SUSPENDED:
            return unanswered(instance, self.now)
        leaving = "warned" if instance.id in self.warned else instance.leaving
        stalled = int(self.now - self.hanging.get(instance.id, self.now))
        return replace(answered(instance, self.now, stalled), leaving=leaving)

    def follow(self, instance: Instance, by_name: dict[str, QueueJob], scontrol_works: bool) -> Instance:
        """Fold in what one successful squeue answer says of one instance."""
        found = by_name.get(instance.name)
        job = own_job(instance, [] if found is None else [found])
        if job is not None:
            return seen(instance, job)
        unseen = missing(instance, self.now, GRACE)
        if unseen.absent < ABSENT_ANSWERS or not unseen.job_id or not scontrol_works:
            return unseen
        really = self.jobs.get(instance.name)
        return replace(unseen, invalid=True) if really is None else seen(unseen, really)

    def demand(self) -> dict[str, TotalDemand]:
        """Return what the relays report."""
        reported = {}
        for name in self.models:
            mine = {one.id: self.open.get(one.id, 0) for one in self.instances.values() if one.model == name}
            running, waiting = sum(mine.values()), self.waiting.get(name, 0)
            reported[name] = TotalDemand(running, waiting, self.now if running + waiting else 0.0, mine)
        return reported

    def decide(self, known: bool = True) -> Decision:
        """Return what the policy decides now."""
        situation = Situation(
            models=self.models,
            instances=tuple(self.instances.values()),
            demand=self.demand(),
            memory=self.memory,
            queue_known=known,
            orders=self.orders,
            backoff=self.backoff,
            scope_backoffs=self.scope_backoffs,
            spent=ledger.spent(self.account, self.now),
        )
        return decide(situation, self.settings, self.now)

    def act(self, decision: Decision, sbatch: str = "ok", refusing: Optional[dict[str, str]] = None) -> None:
        """Carry out a decision; `sbatch` says how its answers come back, `refusing` those for some models."""
        closed: set[str] = set()
        for action in decision.actions:
            if isinstance(action, Submit):
                model, how = self.models[action.model], (refusing or {}).get(action.model, sbatch)
                # As the scheduler does: the next one of the tick would meet the same.
                if closed.isdisjoint({"everybody", model.slurm_scope, model.name}):
                    self.submit(model, action.kind, how)
                    scope = model.slurm_scope if action.kind != BURST else model.name
                    closed.add({"limit": scope, "site": "everybody", "away": "everybody"}.get(how, how))
            elif isinstance(action, Forget):
                del self.instances[action.instance]
            else:
                instance = marked(self.instances[action.instance], action, self.now)
                self.instances[instance.id] = instance
                if isinstance(action, Cancel) and instance.name in self.jobs:
                    self.end(instance.name, "CANCELLED")
        self.memory, self.backoff, self.scope_backoffs = (
            decision.memory,
            decision.backoff,
            decision.scope_backoffs,
        )

    def submit(self, model: ModelSettings, kind: str, sbatch: str) -> None:
        """Submit one job: `ok`, `lost` (Slurm has it, the answer is lost) or one of REFUSALS."""
        self.submitted += 1
        if not any(one.model == model.name and not gone(one) for one in self.instances.values()):
            self.account = ledger.started(self.account, self.now)
        nonce = f"{self.submitted:08x}"
        made = Instance(
            f"{model.name}-{nonce}",
            model.name,
            nonce,
            model.digest,
            self.now,
            kind=kind,
            gpus=model.gpus,
            asked_nodes=model.nodes,
            slurm_scope=model.slurm_scope if kind != BURST else "",
        )
        if sbatch in REFUSALS:
            made = replace(made, submit_error=REFUSALS[sbatch])
        else:
            job_id = str(self.submitted)
            self.jobs[made.name] = QueueJob(job_id, made.name, "PENDING")
            if sbatch == "ok":
                made = replace(made, job_id=job_id, job_state="PENDING")
            else:
                made = replace(made, submit_error="no answer within 20 s")
                self.arrives[made.name] = self.now + ON_ITS_WAY
        self.instances[made.id] = made

    # --- what happens to jobs --------------------------------------------------------------------------

    def end(self, name: str, state: str) -> None:
        """Let a job end."""
        self.jobs[name] = replace(self.jobs[name], state=state)
        self.stop(name)

    def stop(self, name: str) -> None:
        """Take a job's front away, with its requests."""
        instance_id = name.split(":", 1)[1]
        self.healthy.discard(instance_id)
        self.warned.discard(instance_id)
        self.hanging.pop(instance_id, None)
        self.open.pop(instance_id, None)

    def progress(self, name: str, change: str) -> None:
        """Let one job change as Slurm, its node, its engine or a person would."""
        job = self.jobs[name]
        if job.state in TERMINAL:
            if change == "vanish":
                del self.jobs[name]
        elif job.state == "COMPLETING":
            if change == "go on":
                self.end(name, "COMPLETED")
        elif change == "go on":
            self.progress(name, "start" if job.state in ("PENDING", *SUSPENDED) else "ready")
        elif change in ENDS:
            self.end(name, change)
        elif change in HOLDS and job.state == "PENDING":
            self.jobs[name] = replace(job, reason=HOLDS[change])
        elif change == "start" and job.state == "PENDING" and job.reason in ("", "Priority"):
            self.jobs[name] = replace(
                job, state="RUNNING", started=self.now, ends=self.now + self.wall_time, nodes=("c1",)
            )
        elif change == "requeue" and job.state == "RUNNING":
            self.jobs[name] = replace(job, state="PENDING", started=None, ends=None, nodes=())
            self.jobs[name] = replace(self.jobs[name], reason="BeginTime")
            self.stop(name)
        else:
            self.run(name, change)

    def run(self, name: str, change: str) -> None:
        """Let a running job's engine come up, hang or fall silent, or the job be stopped, or warned."""
        job, instance_id = self.jobs[name], name.split(":", 1)[1]
        if job.state in SUSPENDED and change == "start":
            self.jobs[name] = replace(job, state="RUNNING")
        elif job.state != "RUNNING":
            return
        elif change == "ready":
            self.healthy.add(instance_id)
        elif change == "hang":
            self.hanging.setdefault(instance_id, self.now)
        elif change == "sick":
            self.healthy.discard(instance_id)
        elif change == "complete":
            self.jobs[name] = replace(job, state="COMPLETING")
            self.stop(name)
        elif change == "suspend":
            self.jobs[name] = replace(job, state="SUSPENDED")
        elif change == "warn":
            self.warned.add(instance_id)

    def end_overdue(self) -> None:
        """End the jobs whose wall time is over."""
        for job in self.alive():
            if job.ends is not None and job.ends <= self.now:
                self.end(job.name, "TIMEOUT")

    def serve(self, name: str, asked: int) -> None:
        """Let a model have so many requests, on its first instance that takes some, or waiting."""
        mine = [one for one in self.instances.values() if one.model == name]
        takes = [
            one
            for one in mine
            if phase(one) is Phase.READY and one.draining_since is None and not one.leaving
        ]
        busy = sum(self.open.get(one.id, 0) for one in mine)
        for one in mine if asked < busy else ():
            self.open.pop(one.id, None)
        left = max(0, asked - sum(self.open.get(one.id, 0) for one in mine))
        for one in takes:
            free = self.models[name].concurrency - self.open.get(one.id, 0)
            placed = max(0, min(free, left))
            self.open[one.id] = self.open.get(one.id, 0) + placed
            left -= placed
        self.waiting[name] = left


def record(instance: Instance) -> JobRecord:
    """Return the record that the instance's current run publishes."""
    started = instance.started or 0.0
    return JobRecord(instance.id, instance.nonce, instance.job_id, "c1", 20001, "pem", "key", started)
