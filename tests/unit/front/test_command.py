"""`sluice front` as a job runs it, and what Slurm's signals do to it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice.contracts.files import read_json
from sluice.contracts.jobs import JobRecord
from sluice.front.command import add_arguments
from sluice.scheduler.outside.probe import Health, healthy
from sluice.wire.hello import Limits
from tests.fakes.engine import Behaviour, StubEngine
from tests.unit.front.bed import CHAT, RelayClient, chat, trusting, until
from tests.unit.front.test_parts import ENVIRONMENT

SECONDS = 20.0


@contextlib.asynccontextmanager
async def job(
    directory: Path, behaviour: Behaviour
) -> AsyncIterator[tuple[asyncio.subprocess.Process, JobRecord]]:
    """Run an engine here and a front in its own process; yield the process and its record."""
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "SLUICE_JOB_DIR": str(directory),
        "SLURMD_NODENAME": "localhost",
        "SLUICE_PORTS": "30000-39999",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    socket = directory / "engine.sock"
    program = "import sys; from sluice.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "front", "--engine-socket", str(socket)]
    async with StubEngine(behaviour, socket):
        front = await asyncio.create_subprocess_exec(
            *command, "--private-dir", str(directory / "private"), env=environment, stderr=subprocess.DEVNULL
        )
        try:
            await until((directory / "record.json").exists, SECONDS)
            yield front, JobRecord.parse(read_json(directory / "record.json"))
        finally:
            with contextlib.suppress(ProcessLookupError):
                front.kill()
            await front.wait()


async def connected(record: JobRecord) -> RelayClient:
    """Return a relay that the front has accepted."""
    relay = RelayClient(record.key, limits=Limits(session_credit=1 << 24))
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: relay.endpoint, "127.0.0.1", record.port, ssl=trusting())
    await asyncio.wait_for(relay.greeted.wait(), SECONDS)
    return relay


async def health(record: JobRecord) -> Health:
    """Ask as the scheduler does."""
    return await asyncio.get_running_loop().run_in_executor(None, healthy, record, 5.0)


async def test_slurms_signals_end_a_front_behind_its_requests(tmp_path: Path) -> None:
    async with job(tmp_path, Behaviour(tokens=16, delay=0.1)) as (front, record):
        assert await health(record) == Health("")
        relay = await connected(record)
        answer = relay.start("POST", CHAT, chat(stream=True))
        await until(lambda: answer.body, SECONDS)
        front.send_signal(signal.SIGUSR1)
        await until(lambda: relay.connection.peer_going_away, SECONDS)
        assert await health(record) == Health("", "warned")
        front.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert await health(record) == Health("", "terminated")
        assert front.returncode is None
        await until(lambda: relay.why is not None, SECONDS)
        await asyncio.wait_for(front.wait(), SECONDS)
    assert answer.ended
    assert front.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_front_without_requests_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with job(tmp_path, Behaviour()) as (front, record):
        relay = await connected(record)
        front.send_signal(number)
        await asyncio.wait_for(front.wait(), 2)
        await until(lambda: relay.why is not None, SECONDS)
    assert relay.connection.peer_going_away
    assert front.returncode == 0


def test_how_long_an_engine_may_give_nothing_is_a_number_of_seconds() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    needed = ["--engine-socket", "/e", "--private-dir", "/p"]
    assert parser.parse_args(needed).trial_after == 60
    assert parser.parse_args([*needed, "--trial-after", "5"]).trial_after == 5
    for wrong in ("0", "-1", "nan", "1e9", "100000", "soon"):
        with pytest.raises(SystemExit):
            parser.parse_args([*needed, "--trial-after", wrong])
