"""A login node for whole ticks: a Slurm in memory, files below a folder, time that moves when told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional, Union

from sluice.contracts.files import read_json
from sluice.contracts.jobs import JobRecord
from sluice.contracts.routing import RoutingTable
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instances.instance import TERMINAL, QueueJob
from sluice.scheduler.loop.tick import Scheduler
from sluice.scheduler.models import orders
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.outside.probe import Health
from sluice.scheduler.slurm.client import Slurm
from sluice.scheduler.slurm.programs import Known, Unknown
from sluice.scheduler.slurm.submission import Submission, read_comment
from sluice.scheduler.state import StateFile

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"
CERTIFICATE = json.loads((GOLDEN / "job-record.json").read_text())["certificate"]
KEY = "k" * 43
START = 1_795_000_000.0


class MemorySlurm(Slurm):
    """Slurm as a dictionary; `broken` makes every command Unknown."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__("/nowhere", "", 1.0)
        self.jobs: dict[str, QueueJob] = {}
        self.options: dict[str, tuple[str, ...]] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.broken = False
        self.hidden = False
        self.accepts = True
        self.submissions = 0
        self._clock = clock

    def queue(self) -> Union[Known[tuple[QueueJob, ...]], Unknown]:
        if self.broken:
            return Unknown("broken")
        return Known(() if self.hidden else tuple(self.jobs.values()))

    def show(self, job_id: str) -> Union[Known[Optional[QueueJob]], Unknown]:
        return Unknown("broken") if self.broken else Known(self.jobs.get(job_id))

    def submit(self, submission: Submission) -> Union[Known[str], Unknown]:
        if self.broken:
            return Unknown("broken")
        self.submissions += 1
        job_id = str(self.submissions)
        self.jobs[job_id] = QueueJob(
            job_id,
            submission.name,
            "PENDING",
            digest=read_comment(submission.comment)[0],
            kind=read_comment(submission.comment)[1],
            submitted=self._clock(),
        )
        self.options[job_id] = submission.options
        self.environments[job_id] = dict(submission.environment)
        return Known(job_id) if self.accepts else Unknown("timed out")

    def cancel(self, job_id: str, name: str, cluster: str = "") -> Union[Known[None], Unknown]:
        if self.broken:
            return Unknown("broken")
        self.end(job_id, "CANCELLED")
        return Known(None)

    def end(self, job_id: str, state: str) -> None:
        """Let a job end."""
        if self.jobs[job_id].state not in TERMINAL:
            self.jobs[job_id] = replace(self.jobs[job_id], state=state)

    def alive(self) -> list[QueueJob]:
        """Return the jobs that have not ended."""
        return [job for job in self.jobs.values() if job.state not in TERMINAL]


def configuration(root: Path, **changes: Any) -> SchedulerConfig:
    """Return the configuration of a scheduler whose files lie below `root`, but for `changes`."""
    settings: dict[str, Any] = {
        "cluster": "demo",
        "models_dir": f"{root}/models.d",
        "jobs_dir": f"{root}/jobs",
        "state_file": f"{root}/state.json",
        "lock_file": f"{root}/lock",
        "routing_table": f"{root}/routing.json",
        "demand_dir": f"{root}/demand",
        "figures": f"{root}/figures.json",
        "zipapp": "/shared/sluice.pyz",
        "python": "/usr/bin/python3",
        "max_instances": 8,
        "command_timeout": 4.0,
    }
    return SchedulerConfig(**{**settings, **changes})


@dataclass
class Site:
    """A login node with its scheduler: files below `root`, time that only moves when told."""

    root: Path
    now: float = START
    healthy: set[str] = field(default_factory=set)
    leaving: str = ""
    stalled: int = 0
    slurm: MemorySlurm = field(init=False)
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        for name in ("models.d", "jobs", "demand"):
            (self.root / name).mkdir()
        self.slurm = MemorySlurm(lambda: self.now)
        self.start()

    @property
    def config(self) -> SchedulerConfig:
        """The site's configuration."""
        return configuration(self.root)

    def start(self) -> None:
        """Start a new scheduler process: all that it knows is what lies on the disk."""
        self.scheduler = Scheduler(
            config=self.config,
            slurm=self.slurm,
            states=StateFile(self.config.state_file),
            directories=JobDirectories(self.config.jobs_dir, self.config.port_range()),
            probe=self.probe,
            clock=lambda: self.now,
        )
        self.scheduler.load()

    def probe(self, record: JobRecord, timeout: float) -> Health:
        """Answer as the instance's front does."""
        if record.instance not in self.healthy:
            return Health("refused")
        return Health("", self.leaving, self.stalled)

    def tick(self, seconds: float = 2.0) -> None:
        """Let time pass, then tick."""
        self.now += seconds
        self.scheduler.tick()

    def apply(self, **changes: Any) -> None:
        """Put the entry of model `m` in place, as the playbook does, long enough ago to be settled."""
        entry = {**json.loads((GOLDEN / "model-entry.json").read_text()), "name": "m", **changes}
        (self.root / "models.d/m.sbatch").write_text("#!/bin/bash\ntrue\n")
        (self.root / "models.d/m.json").write_text(json.dumps(entry))

    def demand(self, running: int = 0, waiting: int = 0, answered: Optional[dict[str, int]] = None) -> None:
        """Report demand for model `m` as a relay does."""
        model = {"running": running, "waiting": waiting, "last": self.now, "answered": answered or {}}
        document = {"version": 1, "relay": "0" * 16, "written": self.now, "models": {"m": model}}
        (self.root / "demand/a.json").write_text(json.dumps(document))

    def run(self, job_id: str, port: int = 20001) -> None:
        """Let a job start and publish its record, as a healthy front does."""
        job = self.slurm.jobs[job_id]
        self.slurm.jobs[job_id] = replace(
            job, state="RUNNING", started=self.now, ends=self.now + 86_400, nodes=("c1",)
        )
        instance = job.name.split(":", 1)[1]
        self.publish(instance, job_id=job_id, port=port)
        self.healthy.add(instance)

    def publish(self, instance: str, **changes: Any) -> None:
        """Publish a job record."""
        fields = {"job_id": "1", "host": "c1", "port": 20001, **changes}
        nonce = instance.rsplit("-", 1)[1]
        record = JobRecord(
            instance, nonce, certificate=CERTIFICATE, key=KEY, started=self.now, **fields
        ).dump()
        (self.root / "jobs" / instance / "record.json").write_text(json.dumps(record))

    def up(self) -> str:
        """Bring the first instance to ready and return its id."""
        self.tick()
        (job,) = self.slurm.alive()
        self.run(job.job_id)
        self.tick()
        return job.name.split(":", 1)[1]

    def table(self) -> RoutingTable:
        """Return the published routing table."""
        return RoutingTable.parse(read_json(self.config.routing_table))

    def routed(self) -> dict[str, str]:
        """Return the routed instances of model `m` with their states."""
        return {one.id: one.state for one in self.table().models["m"].instances}


def order(site: Site, **changes: Any) -> None:
    """Give an order, as `sluice models` does."""
    orders.change(site.config.models_dir, "m", lambda found: replace(found, **changes))


def write_output(site: Site, job_id: str, text: str) -> None:
    """Let a job say something."""
    instance = site.slurm.jobs[job_id].name.split(":", 1)[1]
    (site.root / "jobs" / instance / "output").write_text(text)
