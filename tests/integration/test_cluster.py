"""The cluster's side as one: real scheduler, relay behind a real sshd, real fronts; fake Slurm, stub engines.

The jobs' directories lie on a file system on which what the compute nodes write appears late.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluice.contracts.files import read_json, write_json
from sluice.contracts.models import ModelEntry, SlurmRequest
from sluice.contracts.routing import RoutingTable
from tests.fakes.late_fs import LateFileSystem
from tests.fakes.proxy import Answer, WireClient
from tests.fakes.slurm.slurm import Cluster
from tests.integration.jobs import MODEL, chat, session, until
from tests.integration.login import PYTHON, ROOT, UID, LoginNode

pytestmark = pytest.mark.integration

DELAY = 2.0

# The job's directory is $SLUICE_JOB_DIR for the login node; here, on the compute node, it is another path,
# whose content gets there late.
SCRIPT = """\
#!/bin/bash
set -eu
place={source}/$SLUICE_INSTANCE
mkdir -p -m 700 "$place"
private=$(mktemp -d {nodes}/XXXXXXXX)
cd {root}
# However the tests end, a job ends by itself.
timeout --foreground -k 1 300 {python} -m tests.fakes.engine \\
  --socket "$private/engine.sock" --tokens 4 --delay 0.05 &
SLUICE_JOB_DIR=$place timeout --foreground -k 1 300 "$SLUICE_PYTHON" -I -S "$SLUICE_ZIPAPP" front \\
  --engine-socket "$private/engine.sock" --private-dir "$private" &
wait -n
"""


@dataclass
class Site:
    """A cluster: its login node, its Slurm, its late file system."""

    login: LoginNode
    slurm: Cluster
    late: LateFileSystem
    root: Path

    def routed(self) -> list[str]:
        """Return the ids of the instances that relays are told of."""
        table = RoutingTable.parse(read_json(self.login.directory / "state" / "routing.json"))
        return [one.id for one in table.models[MODEL].instances if one.state == "ready"]

    def records(self, place: str) -> list[Path]:
        """Return the jobs' records in `source` (the nodes' side) or `view` (the login node's)."""
        return list((self.root / place).glob("*/record.json"))


@contextlib.contextmanager
def site(login: LoginNode, zipapp: Path, least: int) -> Iterator[Site]:
    """Run a cluster with one model of `least` to one instances."""
    # Short: a unix socket's path has at most 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="sluice-cluster-"))
    for name in ("models.d", "source", "view", "nodes", "state"):
        (root / name).mkdir()
    slurm = Cluster(root / "slurm").install(run=True)
    state = login.directory / "state"
    os.chown(state, 0, UID)
    (state / "routing.json").unlink(missing_ok=True)
    lay_out_model(root, least)
    configure(root, state, zipapp)
    try:
        with LateFileSystem(root / "source", root / "view", DELAY) as late, scheduler_running(root, zipapp):
            wait_for(state / "routing.json")
            yield Site(login, slurm, late, root)
    finally:
        slurm.stop()
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def scheduler_running(root: Path, zipapp: Path) -> Iterator[None]:
    """Run the scheduler as cron does, for as long as a test may take."""
    argv = ["setpriv", "--pdeathsig", "KILL", PYTHON, "-I", "-S", str(zipapp)]
    scheduler = subprocess.Popen(
        [*argv, "scheduler", "--config", str(root / "scheduler.json")], stdin=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        scheduler.kill()
        scheduler.wait()


def lay_out_model(root: Path, least: int) -> None:
    entry = ModelEntry(
        name=MODEL,
        engine="stub",
        weights="/nowhere",
        context_length=2048,
        slurm=SlurmRequest("batch", 60, 1, 100),
        min=least,
        concurrency=4,
    )
    script = root / "models.d" / f"{MODEL}.sbatch"
    script.write_text(
        SCRIPT.format(source=root / "source", nodes=root / "nodes", root=ROOT, python=sys.executable)
    )
    write_json(root / "models.d" / f"{MODEL}.json", entry.dump())
    for path in (root / "models.d").iterdir():
        # The scheduler waits for a pair of files to have settled.
        os.utime(path, (time.time() - 60, time.time() - 60))


def configure(root: Path, state: Path, zipapp: Path) -> None:
    write_json(
        root / "scheduler.json",
        {
            "cluster": "test",
            "models_dir": str(root / "models.d"),
            "jobs_dir": str(root / "view"),
            "state_file": str(root / "state" / "state.json"),
            "lock_file": str(root / "state" / "lock"),
            "routing_table": str(state / "routing.json"),
            "demand_dir": str(state / "demand"),
            "figures": str(state / "figures.json"),
            "zipapp": str(zipapp),
            "python": PYTHON,
            "ports": "21000-21999",
            "max_instances": 4,
            "slurm_bin": str(root / "slurm" / "bin"),
            "tick_interval": 0.5,
            "busy_interval": 0.2,
            "run_for": 120,
            "retry_backoff": 0.5,
            "command_timeout": 10,
        },
    )


def wait_for(path: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.05)


async def insist(client: WireClient, seconds: float = 60.0) -> list[Answer]:
    """Ask until there is an answer, as a client does that heeds Retry-After; return all that came back."""
    deadline = time.monotonic() + seconds
    answers = []
    while True:
        answers.append(await client.request(MODEL, chat()))
        if not answers[-1].code:
            return answers
        assert time.monotonic() < deadline, answers[-1].error
        await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def asked(login: LoginNode, zipapp: Path, least: int) -> AsyncIterator[tuple[Site, WireClient]]:
    """Run a cluster and a session with it."""
    with site(login, zipapp, least) as running:
        async with session(login) as client:
            yield running, client


async def test_a_sleeping_model_wakes_by_being_asked(login: LoginNode, zipapp: Path) -> None:
    async with asked(login, zipapp, least=0) as (running, client):
        assert running.slurm.jobs() == []
        answers = await insist(client)
        *refused, served = answers
        assert refused, "the record cannot have been seen at once"
        assert {answer.code for answer in refused} == {"no_instance"}
        assert all(answer.error and answer.error.retry_after for answer in refused)
        assert served.head is not None
        assert running.routed() == [served.head.instance]
        assert len(running.slurm.jobs()) == 1, "waiting for a late record must not start a second job"


async def test_a_record_counts_only_once_it_is_seen(login: LoginNode, zipapp: Path) -> None:
    async with asked(login, zipapp, least=1) as (running, client):
        await until(lambda: running.records("source"))
        published = time.monotonic()
        early = await client.request(MODEL, chat())
        assert running.routed() == []
        assert early.code == "no_instance"
        await until(running.routed)
        assert time.monotonic() - published >= DELAY * 0.9
        assert len(running.slurm.jobs()) == 1


async def test_a_replaced_instance_is_never_asked_by_its_old_record(login: LoginNode, zipapp: Path) -> None:
    async with asked(login, zipapp, least=1) as (running, client):
        (first,) = await wait_for_routed(running)
        (job,) = running.slurm.alive()
        running.slurm.end(job["id"], "FAILED")
        await until(lambda: first not in running.routed())
        # The old record is still to be seen: nobody has removed it on the node's side.
        assert any(first in str(path) for path in running.records("source"))
        (second,) = await wait_for_routed(running)
        served = (await insist(client))[-1]
        assert second != first
        assert served.head is not None
        assert served.head.instance == second
        assert len(running.slurm.alive()) == 1


async def test_a_requeued_job_is_not_known_by_the_record_of_its_first_run(
    login: LoginNode, zipapp: Path
) -> None:
    async with asked(login, zipapp, least=1) as (running, client):
        (first,) = await wait_for_routed(running)
        before = read_json(running.root / "source" / first / "record.json")
        (job,) = running.slurm.alive()
        running.slurm.requeue(job["id"])
        await until(lambda: not running.routed())
        await wait_for_routed(running)
        served = (await insist(client))[-1]
        table = json.loads((login.directory / "state" / "routing.json").read_text())
        (instance,) = table["models"][MODEL]["instances"]
        assert isinstance(before, dict)
        assert instance["key"] != before["key"]
        assert not served.code
        assert len(running.slurm.alive()) == 1


async def wait_for_routed(running: Site) -> list[str]:
    """Wait until an instance is routed; return which."""
    await until(running.routed)
    return running.routed()


async def test_a_cancelled_instance_under_load_loses_no_request_silently(
    login: LoginNode, zipapp: Path
) -> None:
    async with asked(login, zipapp, least=1) as (running, client):
        await wait_for_routed(running)
        answers: list[Answer] = []

        async def load() -> None:
            while True:
                answers.append(await client.begin(MODEL, chat(stream=True)))
                await asyncio.sleep(0.1)

        loading = asyncio.ensure_future(load())
        try:
            await until(lambda: any(answer.ended for answer in answers))
            (job,) = running.slurm.alive()
            running.slurm.end(job["id"], "CANCELLED")
            at = len(answers)
            await until(lambda: any(answer.ended for answer in answers[at + 1 :]))
        finally:
            loading.cancel()
        for answer in answers:
            await client.wait(answer, 10)
        assert all(answer.ended or answer.code in ("no_instance", "instance_failed") for answer in answers)
        for answer in answers:
            if answer.code == "no_instance":
                assert answer.error is not None
                assert answer.error.retry_after
        # An answer that had begun ends in an error that says so. One that had not says that its attempt
        # broke, so that a proxy sends it once more (docs/decisions/broken-attempts.md).
        for answer in answers:
            if answer.code == "instance_failed":
                assert answer.error is not None
                assert answer.body or answer.error.breaks == 1
