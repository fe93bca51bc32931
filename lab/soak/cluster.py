"""Bad input for what the scheduler reads: answers of squeue and scontrol, job folders, demand files."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from lab.soak import mutate
from sluice.errors import RecordError
from sluice.scheduler.instances.instance import Instance, QueueJob, gone, phase, seen
from sluice.scheduler.instances.matching import QueueJobs
from sluice.scheduler.outside import untrusted_files
from sluice.scheduler.outside.demand import DemandFolder
from sluice.scheduler.outside.jobs import LONGEST_LINE, MOST_LINES, JobDirectories
from sluice.scheduler.slurm.squeue import READ, new_mark, parse_job, parse_queue
from sluice.terminal import line

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
# Where writing whole costs no disk.
QUICK = Path("/dev/shm")
ROOT = "/shared/jobs"
DIGEST = "ab" * 32
OURS = tuple(f"m-{number:08x}" for number in range(4))
WIDTHS = (200, 200, 0, 100)
STATES = ("RUNNING", "PENDING", "COMPLETED", "FAILED", "SUSPENDED", "REQUEUE_HOLD", "not understood", "")
TIMES = ("2026-11-22T07:00:00", "N/A", "NONE", "yesterday")
NODES = ("c[1-2]", "", "gpu01", "c[1-2]x[3-4]", "c[9999999-0]")
_PIECES = (
    "|", "\n", "\t", "\r", "\0", " ", "%", "\u202e", "\x1b[2J", "\ufffd", "x" * 300, "17", "RUNNING",
    "(null)",
    "sluice:", OURS[0], f"sluice:{OURS[1]}", ROOT, f"{ROOT}/{OURS[2]}", "17|RUNNING|N/A|N/A|N/A|c1",
    "JobState=FAILED", "JobId=18", f"sluice model=m digest={DIGEST} kind=burst", "|0123456789abcdef|",
    "|0123456789abcdef.",
)  # fmt: skip


def _text(chance: Random) -> str:
    """Return what anybody may call a job."""
    return "".join(chance.choice(_PIECES) for _ in range(chance.choice((0, 1, 1, 2, 5, 12))))


def _cut(text: str, width: int) -> str:
    raw = text.encode()
    return (raw[:width].ljust(width) if width else raw).decode("utf-8", "replace")


class Queue:
    """squeue's answer: whatever the texts contain, states are read right, or count as unreadable."""

    def __init__(self) -> None:
        self._instances = [
            Instance(one, "m", one[-8:], DIGEST, 0.0, job_id=str(16 + n)) for n, one in enumerate(OURS)
        ]
        self._instances.append(replace(self._instances[3], id="m-000000ff", nonce="000000ff", job_id=""))
        self._shown = [
            (path.read_text(), path.read_text().partition(" ")[0].partition("=")[2])
            for path in sorted((GOLDEN / "slurm").glob("scontrol-[ehpr]*.txt"))
        ]

    def __call__(self, chance: Random) -> None:
        mark = new_mark()
        facts = [self._facts(chance, number) for number in range(chance.randint(0, 5))]
        answer = "".join(self._line(chance, one, mark) for one in facts)
        self._check_structure(facts, parse_queue(answer, mark))
        raw = (
            mutate.noise(chance, answer.encode())
            if chance.random() < 0.7
            else answer.encode()[: -chance.randint(1, 300)]
        )
        with contextlib.suppress(ValueError):
            self._follow(parse_queue(raw.decode("utf-8", "replace"), mark))
        self._check_shown(chance)

    def _facts(self, chance: Random, number: int) -> tuple[str, ...]:
        times = (chance.choice(TIMES) for _ in range(3))
        return (
            str(chance.choice((16, 17, 18, 19, 20 + number))),
            chance.choice(STATES),
            *times,
            chance.choice(NODES),
        )

    def _line(self, chance: Random, facts: tuple[str, ...], mark: str) -> str:
        texts = (_cut(_text(chance), width) for width in WIDTHS)
        return f"|{mark}|".join(("|".join(facts), *texts)) + f"|{mark}.\n"

    def _check_structure(self, facts: list[tuple[str, ...]], found: tuple[QueueJob, ...]) -> None:
        assert [job.job_id for job in found] == [one[0] for one in facts]
        for one, job in zip(facts, found):
            understood = one[1] in STATES[:6] and "yesterday" not in one
            assert job.state == (one[1] if understood else "")
        self._follow(found)

    def _follow(self, found: tuple[QueueJob, ...]) -> None:
        jobs = QueueJobs(found, ROOT, OURS)
        whole = all(job.job_id for job in found)
        for instance in self._instances:
            job = jobs.of(instance)
            if job is None:
                assert whole
            elif job.state:
                followed = seen(instance, job)
                assert followed.job_id == job.job_id and instance.job_id in ("", job.job_id)
                phase(followed)
                assert line(followed.reason).isprintable() or not gone(followed)

    def _check_shown(self, chance: Random) -> None:
        """A name in scontrol's answer is never taken for the state behind it."""
        shown, job_id = chance.choice(self._shown)
        real = parse_job(shown, job_id)
        place = shown.index("JobName=") + len("JobName=")
        changed = shown[:place] + _text(chance) + shown[place:]
        with contextlib.suppress(ValueError):
            found = parse_job(changed, job_id)
            assert replace(found, name="", directory="") == replace(real, name="", directory="")
        assert set(READ) >= {"JobId", "JobState"}


class Folders:
    """A job's folder: whatever is in it, its record is read, absent or refused, and the folder is removed."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(
            prefix="sluice-soak-", dir=QUICK if QUICK.is_dir() else None
        )
        self._root = Path(self._place.name) / "jobs"
        self._root.mkdir()
        (self._root.parent / "elsewhere").mkdir()
        self._directories = JobDirectories(str(self._root), range(20000, 21000))
        document = json.loads((GOLDEN / "contracts" / "job-record.json").read_text())
        self._record = json.dumps(document).encode()
        self._instance = Instance(
            document["instance"],
            "m",
            document["nonce"],
            "",
            0.0,
            job_id=document["job_id"],
            nodes=(document["host"],),
        )

    def close(self) -> None:
        """Remove the folders."""
        self._place.cleanup()

    def __call__(self, chance: Random) -> None:
        folder = self._root / self._instance.id
        kept = self._root.parent / "elsewhere" / "kept"
        kept.write_bytes(self._record)
        if chance.random() < 0.1:
            folder.symlink_to(kept.parent)
        else:
            folder.mkdir()
            for name in (
                "record.json",
                "output",
                os.fsdecode(chance.randbytes(4).replace(b"/", b"x").replace(b"\0", b"y")),
            ):
                self._lay(chance, folder / name)
        self._read()
        self._directories.clean((), 1e12)
        if folder.is_symlink():
            folder.unlink()
        assert not os.path.lexists(folder)
        assert kept.read_bytes() == self._record

    def _lay(self, chance: Random, path: Path, depth: int = 0) -> None:
        kinds: tuple[Callable[[], object], ...] = (
            lambda: None,
            lambda: path.write_bytes(self._content(chance)),
            lambda: path.write_bytes(self._content(chance)),
            lambda: path.write_bytes(self._content(chance)),
            lambda: os.mkfifo(path),
            lambda: path.symlink_to(
                chance.choice(("../../elsewhere/kept", path.name, "/dev/zero", "nowhere"))
            ),
            lambda: _socket(path),
            lambda: self._folder(chance, path, depth),
            lambda: _sparse(path),
        )
        with contextlib.suppress(FileExistsError):
            chance.choice(kinds)()

    def _folder(self, chance: Random, path: Path, depth: int) -> None:
        path.mkdir()
        if depth < 4:
            for number in range(chance.randint(0, 3)):
                self._lay(chance, path / str(number), depth + 1)

    def _content(self, chance: Random) -> bytes:
        change = chance.randrange(4)
        if change == 0:
            return self._record
        if change == 1:
            return mutate.fields(chance, self._record)
        return (
            mutate.noise(chance, self._record)
            if change == 2
            else chance.randbytes(chance.choice((0, 9, 20_000)))
        )

    def _read(self) -> None:
        with contextlib.suppress(RecordError):
            record = self._directories.record(self._instance)
            assert record is None or (
                record.host in self._instance.nodes and record.port in range(20000, 21000)
            )
        lines = self._directories.first_lines(self._instance)
        assert len(lines) <= MOST_LINES
        assert all(len(one) <= LONGEST_LINE and line(one) == one for one in lines)
        self._directories.drop_record(self._instance.id)
        self._directories.exists(self._instance.id)


def _socket(path: Path) -> None:
    # Through the folder's descriptor, because a unix socket's path is limited to 107 bytes.
    with socket.socket(socket.AF_UNIX) as listener, untrusted_files.folder(str(path.parent)) as inside:
        listener.bind(f"/proc/self/fd/{inside}/x")
    path.with_name("x").rename(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10 << 30)


class Demand:
    """The demand folder: whatever else is in it, an honest relay's report counts."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(
            prefix="sluice-soak-", dir=QUICK if QUICK.is_dir() else None
        )
        self._folder = DemandFolder(self._place.name)
        self._document = json.loads((GOLDEN / "contracts" / "demand-file.json").read_text())
        self._now = float(self._document["written"])

    def close(self) -> None:
        """Remove the files."""
        self._place.cleanup()

    def __call__(self, chance: Random) -> None:
        place = Path(self._place.name)
        for number in range(chance.randint(0, 4)):
            path = place / chance.choice((f"{number:016x}.json", f"{number}.json", ".x.json", f"{number}"))
            kind = chance.randrange(12)
            with contextlib.suppress(FileExistsError, IsADirectoryError):
                if kind == 0:
                    path.mkdir()
                elif kind == 1:
                    os.mkfifo(path)
                elif kind == 2:
                    path.symlink_to("/dev/zero")
                elif kind == 3 and not os.path.lexists(path):
                    _sparse(path)
                elif not os.path.lexists(path):
                    path.write_bytes(self._content(chance))
        (place / "honest.json").write_bytes(json.dumps(self._document).encode())
        found = self._folder.read(self._now)
        assert set(self._document["models"]) <= set(found)
        assert all(one.running >= 0 and one.waiting >= 0 and one.last >= 0 for one in found.values())
        assert len(self._folder._known) <= 6
        for one in place.iterdir():
            one.rmdir() if stat.S_ISDIR(one.lstat().st_mode) else one.unlink()

    def _content(self, chance: Random) -> bytes:
        raw = json.dumps(self._document).encode()
        if chance.random() < 0.5:
            return mutate.noise(chance, raw)
        model = json.dumps(next(iter(self._document["models"].values()))).encode()
        changed = (
            json.dumps({**self._document, "models": {}})
            .encode()
            .replace(b'"models": {}', b'"models": {"m": ' + mutate.fields(chance, model) + b"}")
        )
        return changed if chance.random() < 0.5 else mutate.fields(chance, raw)
