"""The spool: written records survive the process, and each record is delivered once."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sluice
from sluice.errors import ConfigError
from sluice.proxy.accounts import spool as module
from sluice.proxy.accounts.spool import Spool

KILLED = """
import asyncio, os, signal, sys
from sluice.proxy.accounts.spool import Spool

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
    """Take all records, in batches."""
    found: list[bytes] = []
    for _ in range(10_000):
        batch = spool.batch(most)
        if not batch.records:
            return found
        found += batch.records
        spool.taken(batch)
    raise AssertionError("the spool has no end")


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def sync(spool: Spool) -> None:
    unsynced = spool.unsynced()
    assert unsynced is not None
    unsynced.sync()
    assert spool.unsynced() is None


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
    sync(spool)
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

    monkeypatch.setattr(os, "write", full)
    for number in range(4):
        spool.settle(name(number), record(number))
        spool.flush()
    assert [entry.levelname for entry in caplog.records] == ["CRITICAL"]
    assert everything(spool) == []
    monkeypatch.setattr(os, "write", write)
    spool.settle(name(4), record(4))
    spool.flush()
    assert everything(spool) == [record(number) for number in range(5)]
    spool.close()


async def test_a_write_cut_short_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(str(tmp_path / "usage"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    spool.settle(name(1), record(1))
    spool.flush()
    monkeypatch.setattr(os, "write", write)
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


class Power:
    """Records which bytes of a folder's files were synced."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._sizes: dict[int, int] = {}
        self._names: set[str] = set()
        monkeypatch.setattr(os, "fdatasync", self._file)
        monkeypatch.setattr(os, "fsync", self._entries)

    def _file(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._sizes[found.st_ino] = found.st_size

    def _entries(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == self._folder.stat().st_ino:
            self._names = {path.name for path in self._folder.glob("*.usage")}

    def fail(self, after: Path) -> None:
        """Write to `after` what a power cut leaves."""
        after.mkdir()
        for path in self._folder.glob("*.usage"):
            if path.name in self._names:
                size = self._sizes.get(path.stat().st_ino, 0)
                (after / path.name).write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("seed", range(6))
async def test_what_was_synced_outlives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2500)
    folder = tmp_path / "usage"
    folder.mkdir()
    power = Power(folder, monkeypatch)
    spool = Spool(str(folder))
    chance = random.Random(seed)
    begun: dict[int, bytes] = {}
    taken: set[bytes] = set()
    lasting: dict[int, bytes] = {}
    for number in range(150):
        spool.begin(name(number), record(number, 500))
        begun[number] = record(number, 500)
        if chance.random() < 0.95:
            other = chance.choice(list(begun))
            spool.settle(name(other), record(other))
            del begun[other]
            lasting[other] = b""
        spool.flush()
        if chance.random() < 0.3:
            batch = spool.batch(chance.randint(1, 9))
            spool.taken(batch)
            taken.update(batch.records)
        if chance.random() < 0.2:
            unsynced = spool.unsynced()
            if unsynced is not None:
                settled = {one: record(one) for one in lasting}
                expected = {**begun, **settled}
                # Segments come and go during the sync.
                for more in range(1000 * number + 1000, 1000 * number + 1000 + chance.randint(0, 30)):
                    spool.begin(name(more), record(more, 500))
                    spool.settle(name(more), record(more))
                    spool.flush()
                await asyncio.to_thread(unsynced.sync)
    # Open requests move from segment to segment, and the old segments are removed.
    for more in range(100):
        spool.settle(name(900_000 + more), record(900_000 + more))
        spool.flush()
    taken.update(everything(spool))
    power.fail(tmp_path / "after")
    after = Spool(str(tmp_path / "after"))
    found = set(everything(after))
    for number, one in expected.items():
        # A request that was open then is delivered as it was settled later, or as interrupted.
        assert {one, record(number)} & (found | taken), number
    assert len(found) < 3000
    after.close()
    spool.close()


async def test_segments_are_synced_beside_rotations_and_no_descriptor_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 300)
    before = descriptors()
    spool = Spool(str(tmp_path / "usage"))
    for number in range(200):
        spool.settle(name(number), record(number))
        spool.flush()
        if number % 7 == 0:
            unsynced = spool.unsynced()
            assert unsynced is not None
            syncing = asyncio.to_thread(unsynced.sync)
            spool.settle(name(1000 + number), record(1000 + number))
            spool.flush()
            await syncing
    assert len(everything(spool)) == 229
    spool.close()
    assert descriptors() == before


async def test_one_process_at_a_time_has_the_folder(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "usage"))
    with pytest.raises(ConfigError, match="in use by another process"):
        Spool(str(tmp_path / "usage"))
    spool.close()


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere/usage cannot be used"):
        Spool(str(tmp_path / "nowhere" / "usage"))
