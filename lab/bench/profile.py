"""Where a part spends its time under the closed loop of small requests: py-spy's samples, by function."""

from __future__ import annotations

import collections
import subprocess
from pathlib import Path

from lab.bench import processes, wrk
from lab.bench.processes import BenchError
from lab.bench.report import Bench

PARTS = ("proxy", "relay", "front", "engine")
SECONDS = 10
RATE = 400
SHOWN = 45
# Waiting, which py-spy takes for work where the process lives in a namespace of its own.
WAITING = ("EpollSelector.select (", "_worker (concurrent/")


def run(bench: Bench, part: str) -> str:
    """Sample one part; write and return the report. Raises BenchError."""
    stack = bench.stack()
    target = stack.target("sluice")
    wrk.run(target, bench.directory, seconds=2)
    raw = bench.directory / f"profile-{part}.raw"
    raw.unlink(missing_ok=True)
    sampler = processes.start(
        _argv(bench.directory, _busiest(stack.pids()[part]), raw), raw.with_suffix(".log")
    )
    before = stack.cpu()[part]
    try:
        loop = wrk.run(target, bench.directory, seconds=SECONDS)
        spent = stack.cpu()[part] - before
        sampler.wait(60)
    except subprocess.TimeoutExpired:
        raise BenchError("py-spy did not end in time") from None
    finally:
        processes.end(sampler)
    if not raw.exists():
        raise BenchError(f"py-spy: {raw.with_suffix('.log').read_text()[-500:]}")
    share = spent / max(loop.requests, 1) * 1e6
    text = _report(part, raw.read_text().splitlines(), share, loop.rate)
    (bench.directory / f"profile-{part}.txt").write_text(text)
    return text


def _argv(directory: Path, pid: int, raw: Path) -> list[str]:
    program = str(directory / "site" / "bin" / "py-spy")
    argv = [program, "record", "--pid", str(pid), "--duration", str(SECONDS), "--rate", str(RATE)]
    return [*argv, "--format", "raw", "--function", "--nonblocking", "--output", str(raw)]


def _busiest(pids: list[int]) -> int:
    """Return the process of a part that used most CPU: the interpreter, not the shell above it."""
    everything = processes.table()
    return max(pids, key=lambda pid: everything[pid].cpu if pid in everything else 0.0)


def _report(part: str, lines: list[str], share: float, rate: float) -> str:
    own: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(WAITING):
            continue
        own[frames[-1]] += int(count)
        within.update(dict.fromkeys(frames, int(count)))
    total = max(sum(own.values()), 1)
    found = [
        f"{part}: {share:.0f} us of CPU per request at {rate:,.0f} requests/s, {total} samples;",
        "what the event loop's waiting costs is not told, and falls on the others in proportion",
    ]
    for name, counted in (("OWN TIME", own), ("WITH WHAT IT CALLS", within)):
        found += ["", f"   US      %  {name}"]
        for frame, times in counted.most_common(SHOWN):
            found.append(f"{share * times / total:5.1f}  {100 * times / total:5.1f}  {frame}")
    return "\n".join(found) + "\n"
