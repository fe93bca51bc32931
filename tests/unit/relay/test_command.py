"""The program as sshd runs it: over pipes or one socket; it ends cleanly, whatever the other side does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice.relay import config
from sluice.wire import frames
from tests.unit.relay.bed import relay_config

RUN = "import sys, sluice.cli; sys.exit(sluice.cli.main(sys.argv[1:]))"
Process = asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def relay(directory: Path, descriptors: int) -> AsyncIterator[Process]:
    """Run `sluice relay` on pipes (asyncio's PIPE) or a socket; it must end well, its demand file gone."""
    settings = relay_config(directory)
    path = directory / "relay.json"
    path.write_text(json.dumps(dataclasses.asdict(settings)))
    environment = {**os.environ, "PYTHONPATH": str(Path(config.__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        "relay",
        "--config",
        str(path),
        stdin=descriptors,
        stdout=descriptors,
        env=environment,
    )
    try:
        yield process
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert not any((directory / "demand").iterdir())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def hello(reader: asyncio.StreamReader) -> None:
    """Read the relay's hello."""
    header = await asyncio.wait_for(reader.readexactly(frames.HEADER_BYTES), 15)
    await reader.readexactly(int.from_bytes(header[:3], "big"))


def types(data: bytes) -> list[int]:
    return [frame.type for frame in frames.Decoder().feed(data)]


@pytest.mark.parametrize("way", ["pipes", "socket"])
async def test_ends_when_the_other_side_leaves(tmp_path: Path, way: str) -> None:
    async with opened(tmp_path, way) as (_, reader, writer):
        await hello(reader)
        writer.close()


@pytest.mark.parametrize("way", ["pipes", "socket"])
async def test_garbage_ends_it_with_a_go_away(tmp_path: Path, way: str) -> None:
    async with opened(tmp_path, way) as (_, reader, writer):
        await hello(reader)
        writer.write(b"\xff" * 10_000)
        assert types(await asyncio.wait_for(reader.read(), 10)) == [frames.FrameType.GO_AWAY]


@pytest.mark.parametrize("way", ["pipes", "socket"])
async def test_a_signal_ends_it_with_a_go_away(tmp_path: Path, way: str) -> None:
    async with opened(tmp_path, way) as (process, reader, _):
        await hello(reader)
        process.send_signal(signal.SIGTERM)
        assert types(await asyncio.wait_for(reader.read(), 10)) == [frames.FrameType.GO_AWAY]


@contextlib.asynccontextmanager
async def opened(
    directory: Path, way: str
) -> AsyncIterator[tuple[Process, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Run a relay and yield its input and output."""
    if way == "pipes":
        async with relay(directory, asyncio.subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            yield process, process.stdout, process.stdin
        return
    ours, theirs = socket.socketpair()
    async with relay(directory, theirs.fileno()) as process:
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        yield process, reader, writer
        writer.close()
