"""The spool: what is written outlives the process, and every record comes out once."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sluice
from sluice.errors import ConfigError
from sluice.proxy import spool as module
from sluice.proxy.spool import Spool

KILLED = """
import asyncio, os, signal, sys
from sluice.proxy.spool import Spool

async def main():
    spool = Spool(sys.argv[1])
    for number in range(5):
        spool.begin(f"req-{number:032x}", b'{"id":"req-%032x","status":500}' % number)
    await asyncio.sleep(0)
    for number in range(3):
        spool.settle(f"req-{number:032x}", b'{"id":"req-%032x","status":200}' % number)
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def name(number: int) -> str:
    return f"req-{number:032x}"


def record(number: int, status: int = 200) -> bytes:
    return b'{"id":"%b","status":%d}' % (name(number).encode(), status)


def everything(spool: Spool, most: int = 500) -> list[bytes]:
    """Take all that there is, in batches."""
    found: list[bytes] = []
    for _ in range(10_000):
        batch = spool.batch(most)
        if not batch.records:
            return found
        found += batch.records
        spool.taken(batch)
    raise AssertionError("the spool has no end")


async def test_a_settled_record_comes_out_once(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "usage"))
    spool.begin(name(1), record(1, 500))
    spool.settle(name(1), record(1))
    await asyncio.sleep(0)
    assert len(spool) == 1
    assert everything(spool) == [record(1)]
    assert len(spool) == 0
    assert everything(spool) == []
    spool.close()


async def test_a_batch_that_was_not_taken_comes_again(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "usage"))
    for number in range(7):
        spool.settle(name(number), record(number))
    spool.flush()
    assert spool.batch(3).records == [record(number) for number in range(3)]
    assert everything(spool, 3) == [record(number) for number in range(7)]
    spool.close()


def test_what_a_killed_process_left_is_settled_by_the_next(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(sluice.__file__).parents[1])}
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "usage")]
    done = subprocess.run(argv, env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL

    async def next_one() -> list[bytes]:
        spool = Spool(str(tmp_path / "usage"))
        assert len(spool) == 5
        found = everything(spool)
        spool.close()
        return found

    assert sorted(asyncio.run(next_one())) == sorted(
        [*(record(number) for number in range(3)), *(record(number, 500) for number in (3, 4))]
    )


async def test_a_torn_line_hides_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "usage"
    spool = Spool(str(folder))
    spool.begin(name(1), record(1, 500))
    spool.settle(name(2), record(2))
    spool.close()
    (segment,) = folder.glob("*.usage")
    with segment.open("ab") as stream:
        stream.write(b"-" + record(1)[:20])
    again = Spool(str(folder))
    assert everything(again) == [record(2), record(1, 500)]
    again.close()


async def test_old_segments_go_and_open_requests_do_not_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2000)
    folder = tmp_path / "usage"
    spool = Spool(str(folder))
    spool.begin(name(0), record(0, 500))
    for number in range(1, 200):
        spool.begin(name(number), record(number, 500))
        spool.settle(name(number), record(number))
        spool.flush()
    assert len(list(folder.glob("*.usage"))) > 5
    assert everything(spool) == [record(number) for number in range(1, 200)]
    assert len(list(folder.glob("*.usage"))) == 1
    spool.close()
    last = Spool(str(folder))
    assert record(0, 500) in everything(last)
    last.close()


async def test_a_full_disk_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(str(tmp_path / "usage"))
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "write", full)
    for number in range(4):
        spool.settle(name(number), record(number))
        spool.flush()
    assert [entry.levelname for entry in caplog.records] == ["CRITICAL"]
    assert everything(spool) == []
    monkeypatch.setattr(module.os, "write", write)
    spool.settle(name(4), record(4))
    spool.flush()
    assert everything(spool) == [record(number) for number in range(5)]
    spool.close()


async def test_a_write_cut_short_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(str(tmp_path / "usage"))
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    spool.settle(name(1), record(1))
    spool.flush()
    monkeypatch.setattr(module.os, "write", write)
    spool.settle(name(2), record(2))
    spool.flush()
    assert everything(spool) == [record(1), record(2)]
    spool.close()


async def test_memory_and_disk_are_bounded_and_what_is_lost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 400)
    monkeypatch.setattr(module, "MOST_BYTES", 1200)
    spool = Spool(str(tmp_path / "usage"))
    for number in range(100):
        spool.settle(name(number), record(number))
        spool.flush()
    left = everything(spool)
    assert len(left) + spool.dropped == 100
    assert left[-1] == record(99)
    assert len(spool) == 0
    spool.close()


async def test_one_process_at_a_time_has_the_folder(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "usage"))
    with pytest.raises(ConfigError, match="in use by another process"):
        Spool(str(tmp_path / "usage"))
    spool.close()


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere/usage cannot be used"):
        Spool(str(tmp_path / "nowhere" / "usage"))
