"""Processes of the benchmark: start them, end them, and read their cost from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parents[2]


class BenchError(Exception):
    """The benchmark cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it; `cpu`: seconds, including those of its ended children."""

    pid: int
    parent: int
    argv: str
    cpu: float


def start(
    argv: list[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one; its output goes to `log`."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=None if env is None else dict(env),
            cwd=cwd,
        )


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Ask a process to end, and kill it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(path: Path, process: subprocess.Popen[bytes], log: Path, seconds: float = 30.0) -> None:
    """Wait until a file exists. Raises BenchError with the end of the log."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"{path.name} did not appear: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def table() -> dict[int, Process]:
    """Return every process of the machine by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                process = _read(entry)
                found[process.pid] = process
    return found


def _read(entry: Path) -> Process:
    text = (entry / "stat").read_text()
    # The name stands in brackets and may hold anything, brackets too.
    fields = text[text.rindex(")") + 2 :].split()
    argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    cpu = sum(int(fields[index]) for index in (11, 12, 13, 14)) / TICKS
    return Process(int(entry.name), int(fields[1]), argv, cpu)


def below(pid: int, processes: Mapping[int, Process]) -> list[Process]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[Process] = []
    left = [pid]
    while left:
        one = left.pop()
        if one in processes:
            found.append(processes[one])
        left += children.get(one, [])
    return found


def pss(pids: Iterable[int]) -> int:
    """Return the memory of the processes in bytes: their own, and their part of shared pages (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def pin(pids: Iterable[int], cpus: set[int]) -> None:
    """Bind all threads of the processes to the CPUs; later children inherit it."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread.name), cpus)


def machine_busy() -> tuple[float, float]:
    """Return the CPU seconds that the machine has been busy, and idle, since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / TICKS, idle / TICKS
