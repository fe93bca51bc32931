"""The contestant under test: Sluice's own policy, `sluice.scheduler.policy.policy.decide`, unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lab.simulate.serving import Server, Worker
from lab.simulate.simulation import Service
from lab.simulate.slurm import RUNNING
from sluice.scheduler.instances.instance import BASE, BURST, Instance, QueueJob, answered, seen
from sluice.scheduler.policy import policy

START_TIMEOUT = 1800.0
# Seconds until the second decision after a drain, as in the scheduler's short interval.
SOON = policy.DRAIN_GRACE + 1.0


@dataclass
class Sluice:
    """Keeps the scheduler's state between ticks, and carries out the decisions.

    With real Slurm actions take time; here an intent gets its job's id and a cancelled job ends at once.
    """

    idle_stop: float
    instances: dict[str, Instance] = field(default_factory=dict)
    memory: dict[str, policy.Memory] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    _ticks: int = 0
    _models: dict[str, policy.ModelSettings] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)
    _backoff: policy.Backoff = field(default_factory=policy.Backoff)

    def changed(self, worker: Worker, now: float) -> None:
        """Fold in what squeue and the probe would show of one instance."""
        instance = self.instances.get(worker.id)
        if instance is None:
            return
        memory = self.memory.get(worker.model, policy.Memory())
        job = worker.job
        if worker.ready_at is not None and not worker.dead:
            instance = answered(instance, now)
            memory = policy.measured_load(memory, now - job.started)
        else:
            ends = None if job.state != RUNNING else job.started + job.seconds
            started = job.started if job.node >= 0 else None
            nodes = (f"n{job.node:03d}",) if job.node >= 0 else ()
            instance = seen(
                instance,
                QueueJob(str(job.id), instance.name, job.state, started=started, ends=ends, nodes=nodes),
            )
            if job.state == RUNNING:
                memory = policy.measured_queue(memory, job.started - instance.created)
        self.instances[worker.id] = instance
        self.memory[worker.model] = memory

    def tick(self, service: Service, now: float) -> None:
        """Decide and act; then once more for draining instances, for which the scheduler ticks faster."""
        if not self._models:
            self._models = {name: self._model(server) for name, server in service.servers.items()}
        # For speed: a model without requests and instances is skipped, and one whose instances are all ready
        # and whose requests all have places is decided only every second tick.
        self._ticks += 1
        looked = {
            name: server
            for place, (name, server) in enumerate(service.servers.items())
            if (not server.quiet or self.wanted.get(name)) and (not server.calm or (place + self._ticks) % 2)
        }
        drained = self._decide(service, looked, now)
        if drained:
            self._decide(service, {name: looked[name] for name in drained}, now + SOON)

    def _decide(self, service: Service, looked: dict[str, Server], now: float) -> list[str]:
        """Decide for these models and act; return those with a newly draining instance."""
        instances = [one for one in self.instances.values() if one.model in looked]
        others = sum(one.gpus for one in self.instances.values() if one.model not in looked)
        situation = policy.Situation(
            models={name: self._models[name] for name in looked},
            instances=instances,
            demand={name: _demand(server) for name, server in looked.items()},
            memory=self.memory,
            backoff=self._backoff,
        )
        room = service.world.parameters.cluster.service_gpus - others
        settings = policy.SiteSettings(max_instances=10_000, max_gpus=max(1, room))
        decision = policy.decide(situation, settings, now)
        self.memory, self._backoff = decision.memory, decision.backoff
        self.wanted.update(decision.wanted)
        for action in decision.actions:
            self._act(service, action, now)
        drains = (action.instance for action in decision.actions if isinstance(action, policy.Drain))
        return sorted({self.instances[instance].model for instance in drains})

    def _model(self, server: Server) -> policy.ModelSettings:
        model = server.model
        return policy.ModelSettings(
            model.name,
            digest="d" * 64,
            min=0,
            max=model.max,
            concurrency=model.concurrency,
            idle_stop=self.idle_stop,
            start_timeout=START_TIMEOUT,
            burst=model.burst,
            gpus=model.gpus,
        )

    def _act(self, service: Service, action: policy.Action, now: float) -> None:
        if isinstance(action, policy.Submit):
            burst = action.kind == BURST
            worker = service.submit(action.model, now, burst=burst)
            self._workers[worker.id] = worker
            self.instances[worker.id] = Instance(
                worker.id,
                action.model,
                worker.id[-8:],
                "d" * 64,
                now,
                job_id=str(worker.job.id),
                job_state="PENDING",
                kind=BURST if burst else BASE,
                gpus=worker.job.gpus,
                concurrency=service.servers[action.model].model.concurrency,
            )
        elif isinstance(action, policy.Forget):
            del self.instances[action.instance], self._workers[action.instance]
        else:
            self._change(service, action, self._workers[action.instance], now)

    def _change(
        self,
        service: Service,
        action: policy.Drain | policy.Resume | policy.Cancel,
        worker: Worker,
        now: float,
    ) -> None:
        instance = self.instances[worker.id]
        if isinstance(action, policy.Drain):
            worker.draining = True
            instance = replace(instance, draining_since=now, drain_reason=action.reason)
        elif isinstance(action, policy.Resume):
            worker.draining = False
            instance = replace(instance, draining_since=None, drain_reason="")
        else:
            instance = replace(instance, cancelled_at=now, cancel_reason=action.reason)
        self.instances[worker.id] = instance
        if isinstance(action, policy.Cancel):
            service.cancel(worker, now)


def _demand(server: Server) -> policy.TotalDemand:
    instances = {worker.id: worker.running for worker in server.workers.values() if worker.running}
    return policy.TotalDemand(server.running, server.waiting, server.last, instances)
