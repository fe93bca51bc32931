"""A tick of a large service: 200 models, 2,000 jobs, all ready, nothing to do.

squeue is a file that `sed` prints. All jobs share one front, in a separate process. Only the CPU time of the
scheduler's process counts, including the TLS of its probes.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from lab.bench.report import Bench, Figure, Scenario, at_most, over_rounds
from sluice.contracts.files import write_json
from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.loop.tick import Scheduler
from sluice.scheduler.models.catalogue import read_catalogue
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.outside.probe import healthy
from sluice.scheduler.slurm.client import Slurm
from sluice.scheduler.slurm.submission import comment
from sluice.scheduler.state import State, StateFile
from tests.fakes.front import KEY, Listening, healthy_front
from tests.unit.scheduler.site import configuration

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "contracts"
MODELS, JOBS = 200, 2000
NODES = 500
PORTS = range(20_000, 20_999)
CALLS = "calls"


class Service:
    """A login node's files below `root`, with this many models and running instances, all ready."""

    def __init__(self, root: Path, front: Listening, models: int = MODELS, jobs: int = JOBS) -> None:
        self.root = root
        self.front = front
        self.now = float(int(time.time()))
        for name in ("models.d", "jobs", "demand", "bin"):
            (root / name).mkdir()
        self.config = configuration(root, max_instances=jobs, slurm_bin=f"{root}/bin")
        self._models(models, jobs // models)
        self._jobs(models, jobs)
        self._commands()
        self.scheduler = self.start()

    def start(self) -> Scheduler:
        """Start a scheduler with the files on the disk."""
        config = self.config
        made = Scheduler(
            config=config,
            slurm=Slurm(config.slurm_bin, "", 20.0),
            states=StateFile(config.state_file),
            directories=JobDirectories(config.jobs_dir, config.port_range()),
            probe=healthy,
            clock=lambda: self.now,
        )
        made.load()
        return made

    def tick(self) -> float:
        """Let 30 s pass, tick, and return the CPU seconds that this process used for it."""
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
            node = f"gpu{number % NODES:03}"
            digest = listed[model].digest
            said = {"instance": f"{model}-{nonce}", "nonce": nonce, "job_id": job_id, "host": "127.0.0.1"}
            place = {"port": self.front.port, "certificate": self.front.certificate, "key": KEY}
            instances[f"{model}-{nonce}"] = Instance(
                f"{model}-{nonce}",
                model,
                nonce,
                digest,
                self.now - 3600,
                job_id=job_id,
                record=JobRecord.parse({**record, **said, **place}),
                ready_at=self.now - 3500,
                concurrency=16,
            )
            folder = f"{self.config.jobs_dir}/{model}-{nonce}"
            texts = ("None", comment(model, digest), folder, f"sluice:{model}-{nonce}")
            facts = f"{job_id}|RUNNING|{stamp}|{stamp}|{ends}|{node}"
            lines.append("|MARK|".join((facts, *texts)) + "|MARK.\n")
        (self.root / "queue").write_text("".join(lines))
        StateFile(self.config.state_file).save(replace(State(), instances=instances))

    def _commands(self) -> None:
        for name in ("squeue", "sbatch", "scancel", "scontrol"):
            path = self.root / "bin" / name
            # The mark of the question is the last word of its format: "|<mark>.".
            mark = "for format; do :; done; mark=${format##*|}; mark=${mark%.}"
            printed = f'{mark}; exec sed "s/MARK/$mark/g" {self.root}/queue'
            answer = printed if name == "squeue" else "exit 1"
            path.write_text(f"#!/bin/sh\nprintf . >>{self.root}/{CALLS}.{name}\n{answer}\n")
            path.chmod(0o755)

    def _demand(self) -> None:
        one = {"running": 16, "waiting": 0, "last": self.now}
        demand = {f"model-{number:03}": one for number in range(200)}
        document = {"version": 1, "relay": "0" * 16, "written": self.now, "models": demand}
        write_json(self.root / "demand" / "a.json", document)


def _serve(directory: str, say: Connection) -> None:
    with healthy_front(Path(directory), PORTS) as listening:
        say.send((listening.port, listening.certificate))
        say.recv()


@contextmanager
def front(directory: Path) -> Iterator[Listening]:
    """Run a front in a separate process."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(str(directory), theirs), daemon=True)
    process.start()
    try:
        yield Listening(*mine.recv())
    finally:
        process.terminate()
        process.join()


def tick(bench: Bench) -> list[Figure]:
    """The CPU time of the scheduler's process for a tick, and its calls of Slurm's commands."""
    ticks = 5 if bench.quick else 15
    with tempfile.TemporaryDirectory(prefix="sluice-tick-") as place:
        directory = Path(place)
        with front(directory) as listening:
            service = Service(directory, listening)
            first = service.tick()
            others = [service.tick() for _ in range(ticks)]
        squeue = service.calls("squeue") / (ticks + 1)
        acted = sum(service.calls(name) for name in ("sbatch", "scancel", "scontrol"))
    what = f"{MODELS} models, {JOBS:,} jobs"
    return [
        over_rounds(f"CPU of a tick, {what}", others, "ms", at_most(200), scale=1000.0),
        Figure("the first tick of a process", first * 1000, "ms"),
        Figure("squeue calls in a tick", squeue, "calls", at_most(1)),
        Figure("sbatch, scancel, scontrol calls in all ticks", acted, "calls", at_most(0)),
    ]


SCENARIOS = (Scenario("tick", "A tick of a large service at rest", tick),)
