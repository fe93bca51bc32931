"""A closed loop of small requests by wrk: a number of connections, each with one request at a time."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.bench.processes import BenchError
from lab.bench.target import Target

MESSAGES = '[{"role":"user","content":"What is the capital of France?"}]'
SCRIPT = """\
wrk.method = "POST"
wrk.body = [==[%(body)s]==]
wrk.headers["Content-Type"] = "application/json"
%(bearer)s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %%d, "microseconds": %%d, "failed": %%d, "bytes": %%d, ',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout, summary.bytes))
  io.write(string.format('"p50": %%f, "p95": %%f, "p99": %%f}\\n',
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Loop:
    """The results of a closed loop: good answers, failures, rate per second, times in ms, its CPU seconds."""

    requests: int
    failed: int
    rate: float
    p50: float
    p95: float
    p99: float
    cpu: float


def body(model: str, tokens: int = 8) -> str:
    """Return a small request."""
    return f'{{"model":"{model}","max_tokens":{tokens},"messages":{MESSAGES}}}'


def run(target: Target, directory: Path, *, connections: int = 64, seconds: int = 4) -> Loop:
    """Run the loop. Raises BenchError if wrk fails."""
    script = directory / "wrk.lua"
    bearer = f'wrk.headers["Authorization"] = "Bearer {target.key}"' if target.key else ""
    script.write_text(SCRIPT % {"body": body(target.model), "bearer": bearer})
    script.chmod(0o600)
    argv = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    before = _children()
    try:
        done = subprocess.run(
            [*argv, "--timeout", "30s", "--script", str(script), target.url],
            capture_output=True,
            text=True,
            timeout=seconds + 120,
            check=False,
        )
    finally:
        script.unlink()
    cpu = _children() - before
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"wrk against {target.name}: {(done.stderr or done.stdout)[-500:]}")
    found = json.loads(line.removeprefix("RESULT "))
    good = max(found["requests"] - found["failed"], 0)
    rate = good / found["microseconds"] * 1e6
    p50, p95, p99 = (found[name] / 1000 for name in ("p50", "p95", "p99"))
    return Loop(good, found["failed"], rate, p50, p95, p99, cpu)


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system
