"""Jobs without Slurm: a stub engine and, as a process of its own, the real front."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sluice.contracts.files import read_json, write_json
from sluice.contracts.jobs import JobRecord
from sluice.contracts.paths import CAPABILITIES
from sluice.contracts.routing import RoutedInstance, RoutingTable
from tests.fakes.engine import Behaviour, StubEngine
from tests.fakes.proxy import WireClient
from tests.fakes.routed import routed
from tests.felt import Stopwatch
from tests.integration.login import PYTHON, UID, LoginNode

MODEL = "tiny"
# What a scheduler keeps one instance of.
ENTRY = {
    "version": 1,
    "name": MODEL,
    "engine": "stub",
    "weights": "/weights",
    "context_length": 2048,
    "slurm": {"partition": "normal", "time": 60, "cpus": 1, "memory_mb": 100},
    "min": 1,
    "max": 1,
    "idle_stop": 3,
}


def scheduler_files(root: Path) -> dict[str, Any]:
    """Return what a scheduler's configuration says of its files, all below `root`, and of its service."""
    files = {"models_dir": "models.d", "jobs_dir": "jobs", "demand_dir": "demand", "lock_file": "lock"}
    files |= {"state_file": "state.json", "routing_table": "routing.json", "figures": "figures.json"}
    places = {key: str(root / name) for key, name in files.items()}
    return {"cluster": "test", "python": PYTHON, "max_instances": 4, **places}


def chat(stream: bool = False, model: str = MODEL, **extra: Any) -> bytes:
    """Return a small chat request's body."""
    content = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": model, "messages": content, "stream": stream, **extra}).encode()


@dataclass
class Job:
    """A front's process, its engine, and what it published."""

    engine: StubEngine
    front: subprocess.Popen[bytes]
    record: JobRecord
    directory: Path

    def instance(self, **changes: Any) -> RoutedInstance:
        """Return the job as the scheduler would route it."""
        record = self.record
        fields: dict[str, Any] = {
            "id": record.instance,
            "job_id": record.job_id,
            "host": record.host,
            "port": record.port,
            "certificate": record.certificate,
            "key": record.key,
            "state": "ready",
        }
        return RoutedInstance(**{**fields, **changes})


@contextlib.asynccontextmanager
async def job(directory: Path, zipapp: Path, behaviour: Optional[Behaviour] = None) -> AsyncIterator[Job]:
    """Run an engine and a front, as a job's script does, until the front has published its record."""
    nonce = secrets.token_hex(4)
    place = directory / f"{MODEL}-{nonce}"
    place.mkdir(mode=0o700)
    environment = {
        "PATH": "/usr/bin:/bin",
        "SLUICE_INSTANCE": f"{MODEL}-{nonce}",
        "SLUICE_NONCE": nonce,
        "SLUICE_JOB_DIR": str(place),
        "SLUICE_PORTS": "30000-39999",
        "SLUICE_CONCURRENCY": "64",
        "SLUICE_MAX_BODY": "8388608",
        "SLURM_JOB_ID": "17",
        "SLURMD_NODENAME": "localhost",
    }
    async with StubEngine(behaviour or Behaviour(), place / "engine.sock") as engine:
        front = start_front(place, zipapp, environment)
        try:
            yield Job(engine, front, await published(place), place)
        finally:
            front.kill()
            front.wait()


def start_front(place: Path, zipapp: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a front; what it says goes to `output`, as a job's does."""
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        PYTHON,
        "-I",
        "-S",
        str(zipapp),
        "front",
        "--engine-socket",
        str(place / "engine.sock"),
    ]
    with (place / "output").open("wb") as output:
        return subprocess.Popen(
            [*command, "--private-dir", str(place / "private")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


async def published(place: Path, seconds: float = 60.0) -> JobRecord:
    """Wait for a job's record."""
    deadline = time.monotonic() + seconds
    path = place / "record.json"
    while not path.exists():
        assert time.monotonic() < deadline, (place / "output").read_text()
        await asyncio.sleep(0.02)
    assert path.stat().st_mode & 0o777 == 0o600
    return JobRecord.parse(read_json(path))


def publish(
    node: LoginNode,
    *instances: RoutedInstance,
    generation: int = 1,
    capabilities: tuple[str, ...] = CAPABILITIES,
) -> None:
    """Write the routing table as the scheduler does."""
    model = routed(instances, capabilities=capabilities, concurrency=64)
    table = RoutingTable("test", generation, time.time(), {MODEL: model})
    write_json(node.directory / "state" / "routing.json", table.dump(), mode=0o640, group=UID)


@contextlib.asynccontextmanager
async def session(node: LoginNode) -> AsyncIterator[WireClient]:
    """Open a session as the proxy does, through ssh and sshd."""
    process = await asyncio.create_subprocess_exec(
        *node.ssh(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdin is not None
    client = WireClient(process.stdout, process.stdin)
    try:
        await client.open()
        yield client
    finally:
        await client.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until(condition: Any, seconds: float = 60.0) -> float:
    """Wait until the condition holds; return how long that was felt to be."""
    with Stopwatch() as felt:
        while not condition():
            assert felt.seconds < seconds, "did not come true in time"
            await asyncio.sleep(0.01)
    return felt.seconds


def environment_of(pid: int) -> bytes:
    """Return what a process has in its argv and environment."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


def files_below(directory: Path) -> list[Path]:
    """Return every regular file below a directory."""
    return [
        Path(place) / name
        for place, _, names in os.walk(directory)
        for name in names
        if (Path(place) / name).is_file()
    ]
