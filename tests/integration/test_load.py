"""Many streams at once over a real sshd, relay and front: nothing is lost, nobody suffers for another.

No times are asked for here (`make bench` measures those); every answer is checked by its content.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lab.bench.generator import Group, Load, Plan, run
from lab.bench.processes import pss
from lab.bench.target import Target
from sluice.contracts.jobs import JobRecord
from sluice.contracts.routing import RoutedInstance
from tests.integration.jobs import MODEL, publish, published, start_front
from tests.integration.login import ROOT, LoginNode, account_processes, relay_processes
from tests.integration.test_proxy_over_sshd import Bed, proxy, settings

pytestmark = pytest.mark.integration

CONCURRENCY = 512
KIB = 1024


@dataclass
class Job:
    """A front before the benchmark's engine, which numbers its tokens."""

    front: subprocess.Popen[bytes]
    record: JobRecord

    def instance(self) -> RoutedInstance:
        """Return the job as the scheduler would route it."""
        record = self.record
        return RoutedInstance(
            id=record.instance, job_id=record.job_id, host=record.host, port=record.port,
            certificate=record.certificate, key=record.key, state="ready",
        )  # fmt: skip


@pytest_asyncio.fixture
async def numbered(tmp_path: Path, zipapp: Path, login: LoginNode) -> AsyncIterator[Job]:
    """A job whose instance is routed and takes hundreds of requests at once."""
    nonce = secrets.token_hex(4)
    place = tmp_path / f"{MODEL}-{nonce}"
    place.mkdir(mode=0o700)
    engine = start_engine(place)
    environment = {
        "PATH": "/usr/bin:/bin",
        "SLUICE_INSTANCE": f"{MODEL}-{nonce}",
        "SLUICE_NONCE": nonce,
        "SLUICE_JOB_DIR": str(place),
        "SLUICE_PORTS": "30000-39999",
        "SLUICE_CONCURRENCY": str(CONCURRENCY),
        "SLUICE_MAX_BODY": "8388608",
        "SLURM_JOB_ID": "17",
        "SLURMD_NODENAME": "localhost",
    }
    front = start_front(place, zipapp, environment)
    try:
        job = Job(front, await published(place))
        route(login, job.instance())
        yield job
    finally:
        for process in (front, engine):
            process.kill()
            process.wait()


def start_engine(place: Path) -> subprocess.Popen[bytes]:
    """Start the benchmark's engine on the socket where the front looks for it."""
    argv = [sys.executable, "-m", "lab.bench.engine", "--socket", str(place / "engine.sock")]
    return subprocess.Popen([*argv, "--port-file", str(place / "port")], cwd=ROOT, stdin=subprocess.DEVNULL)


def route(login: LoginNode, instance: RoutedInstance) -> None:
    """Publish the instance as one that takes hundreds of requests at once."""
    publish(login, instance)
    path = login.directory / "state" / "routing.json"
    table = json.loads(path.read_text())
    table["models"][MODEL]["concurrency"] = CONCURRENCY
    path.write_text(json.dumps(table))


@pytest_asyncio.fixture
async def bed(tmp_path: Path, login: LoginNode, numbered: Job) -> AsyncIterator[Bed]:
    """A proxy that is ready."""
    async with proxy(settings(login, tmp_path)) as opened:
        yield opened


def target(bed: Bed, place: Path) -> Target:
    """Return the proxy's own socket: what nginx speaks to."""
    return Target("proxy", path=str(place / "http.sock"), key=bed.key, model=MODEL)


async def load(plan: Plan) -> dict[str, Any]:
    """Carry a plan out beside this process's loop; return the results by group."""
    groups: dict[str, Any] = (await asyncio.to_thread(run, plan))["groups"]
    return groups


async def test_a_burst_of_256_new_connections_is_answered_whole(bed: Bed, tmp_path: Path) -> None:
    burst = Group("burst", 256, requests=256, tokens=20, rate=20.0, fresh=True)
    found = await load(Plan(target(bed, tmp_path), (burst,), 20.0))
    assert found["burst"]["outcomes"] == {"ok": 256}


async def test_a_killed_session_ends_its_own_streams_alone_and_fails_no_new_request(
    bed: Bed, tmp_path: Path
) -> None:
    streams = Group("streams", 50, requests=50, tokens=40, rate=10.0)
    new = Group("new", 16, arrivals=20.0, poisson=False, stream=False, tokens=3, requests=80)
    with Load(Plan(target(bed, tmp_path), (streams, new), 10.0)) as running:
        flowing = lambda groups: groups["streams"]["flowing"] == 50  # noqa: E731
        assert await asyncio.to_thread(running.wait, flowing, 10.0), running.figures
        kill_a_session()
        found = (await asyncio.to_thread(running.results))["groups"]
    outcomes = found["streams"]["outcomes"]
    told = outcomes.pop("error event cluster_unreachable", 0)
    assert told > 0, "the session that was killed carried no stream"
    assert outcomes == ({"ok": 50 - told} if told < 50 else {})
    assert found["new"]["outcomes"] == {"ok": 80}


def kill_a_session() -> None:
    """Kill sshd's process of one session, as the kernel does when memory runs out."""
    sessions = [pid for pid, argv in account_processes() if argv[0].startswith("sshd")]
    assert len(sessions) >= 2, "one session alone: it carries everything"
    # One that came later may have nothing to carry yet.
    os.kill(max(sessions, key=carried), signal.SIGKILL)


def carried(pid: int) -> int:
    """Return the bytes that a process has written to files, pipes and sockets (proc(5), io)."""
    lines = (line.partition(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int({name: value for name, _, value in lines}["wchar"])


async def test_readers_that_stop_reading_hold_nobody_up_and_little_memory(
    bed: Bed, tmp_path: Path, numbered: Job
) -> None:
    where = target(bed, tmp_path)
    cluster = [numbered.front.pid, *relay_processes()]
    before = pss(cluster)
    stalled = Group("stalled", 100, requests=100, tokens=100_000, size=2000, stop_after=5)
    live = Group("live", 16, requests=16, tokens=40, rate=20.0)
    with Load(Plan(where, (stalled,), 30.0, grace=1.0)) as running:
        standing = lambda groups: groups["stalled"]["stopped"] == 100  # noqa: E731
        assert await asyncio.to_thread(running.wait, standing, 15.0), running.figures
        found = await load(Plan(where, (live,), 15.0))
        grown = pss(cluster) - before
        assert running.figures["stalled"]["outcomes"] == {}
        running.stop()
        await asyncio.to_thread(running.results)
    assert found["live"]["outcomes"] == {"ok": 16}
    assert grown / 100 < 256 * KIB
