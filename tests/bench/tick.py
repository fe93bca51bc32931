"""A tick of a large service, measured: 200 models, 2,000 jobs at rest. `python -m tests.bench.tick`

squeue is a file that `cat` prints, the fronts are not asked: what is counted is the scheduler's own CPU time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from sluice.records import JobRecord, write_json
from sluice.scheduler.catalogue import read_catalogue
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instance import Instance
from sluice.scheduler.jobs import JobDirectories
from sluice.scheduler.probe import Health
from sluice.scheduler.slurm import Slurm
from sluice.scheduler.state import State, StateFile
from sluice.scheduler.submission import comment
from sluice.scheduler.tick import Scheduler

GOLDEN = Path(__file__).parents[1] / "golden" / "contracts"
CALLS = "calls"
GOAL = 0.2


class Service:
    """A login node's files below `root` with so many models and running instances, all of them ready."""

    def __init__(self, root: Path, models: int, jobs: int) -> None:
        self.root = root
        self.now = float(int(time.time()))
        for name in ("models.d", "jobs", "demand", "bin"):
            (root / name).mkdir()
        self.config = SchedulerConfig(
            cluster="bench",
            models_dir=f"{root}/models.d",
            jobs_dir=f"{root}/jobs",
            state_file=f"{root}/state.json",
            lock_file=f"{root}/lock",
            routing_table=f"{root}/routing.json",
            demand_dir=f"{root}/demand",
            figures=f"{root}/figures.json",
            zipapp="/shared/sluice.pyz",
            python="/usr/bin/python3",
            max_instances=jobs,
            slurm_bin=f"{root}/bin",
        )
        self._models(models, jobs // models)
        self._jobs(models, jobs)
        self._commands()
        self.scheduler = self.start()

    def start(self) -> Scheduler:
        """Start a scheduler on what lies on the disk."""
        config = self.config
        made = Scheduler(
            config=config,
            slurm=Slurm(config.slurm_bin, "", 20.0),
            states=StateFile(config.state_file),
            directories=JobDirectories(config.jobs_dir, config.port_range()),
            probe=lambda record, timeout: Health(""),
            clock=lambda: self.now,
        )
        made.load()
        return made

    def tick(self) -> float:
        """Let 30 s pass, tick, and return the seconds of CPU that this process took for it."""
        self.now += 30.0
        self._demand()
        began = time.process_time()
        self.scheduler.tick()
        return time.process_time() - began

    def calls(self, program: str) -> int:
        """Return how often one of Slurm's commands was called."""
        path = self.root / f"{CALLS}.{program}"
        return path.stat().st_size if path.exists() else 0

    def _models(self, models: int, each: int) -> None:
        entry = json.loads((GOLDEN / "model-entry.json").read_text())
        for number in range(models):
            name = f"model-{number:03}"
            script = f"#!/bin/bash\n# {name}\n" + "true\n" * 300
            (self.root / "models.d" / f"{name}.sbatch").write_text(script)
            changes = {"name": name, "min": each, "max": each, "burst": None}
            (self.root / "models.d" / f"{name}.json").write_text(json.dumps({**entry, **changes}))
        self.now += 10.0

    def _jobs(self, models: int, jobs: int) -> None:
        listed = read_catalogue(self.config.models_dir, self.now).listed
        record = json.loads((GOLDEN / "job-record.json").read_text())
        instances, lines = {}, []
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.now - 3600))
        ends = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.now + 86_400))
        for number in range(jobs):
            model, nonce, job_id = f"model-{number % models:03}", f"{number:08x}", str(100_000 + number)
            node = f"gpu{number % 500:03}"
            digest = listed[model].digest
            key = JobRecord.parse(
                {**record, "instance": f"{model}-{nonce}", "nonce": nonce, "job_id": job_id, "host": node}
            )
            instances[f"{model}-{nonce}"] = Instance(
                f"{model}-{nonce}",
                model,
                nonce,
                digest,
                self.now - 3600,
                job_id=job_id,
                record=key,
                ready_at=self.now - 3500,
                concurrency=16,
            )
            said = comment(model, digest)
            lines.append(
                f"{job_id}|RUNNING|{stamp}|{stamp}|{ends}|{node}|None|{said}|sluice:{model}-{nonce}\n"
            )
        (self.root / "queue").write_text("".join(lines))
        StateFile(self.config.state_file).save(replace(State(), instances=instances))

    def _commands(self) -> None:
        for name in ("squeue", "sbatch", "scancel", "scontrol"):
            path = self.root / "bin" / name
            answer = f"exec cat {self.root}/queue" if name == "squeue" else "exit 1"
            path.write_text(f"#!/bin/sh\nprintf . >>{self.root}/{CALLS}.{name}\n{answer}\n")
            path.chmod(0o755)

    def _demand(self) -> None:
        one = {"running": 16, "waiting": 0, "last": self.now}
        demand = {f"model-{number:03}": one for number in range(200)}
        document = {"version": 1, "relay": "0" * 16, "written": self.now, "models": demand}
        write_json(self.root / "demand" / "a.json", document)


def main() -> int:
    """Print the figures; 0 when the goal is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--ticks", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-tick-") as directory:
        service = Service(Path(directory), arguments.models, arguments.jobs)
        first = service.tick()
        others = sorted(service.tick() for _ in range(arguments.ticks))
        median = others[len(others) // 2]
        squeue = service.calls("squeue") / (arguments.ticks + 1)
        acted = sum(service.calls(name) for name in ("sbatch", "scancel", "scontrol"))
    print(f"first tick of a process: {first * 1000:.0f} ms of CPU; later ones: median {median * 1000:.0f} ms")
    print(f"squeue calls per tick: {squeue:g}; sbatch, scancel and scontrol calls in all: {acted}")
    return 0 if median <= GOAL and squeue == 1 and acted == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
