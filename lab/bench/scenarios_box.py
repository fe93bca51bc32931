"""The cost of an engine's box: requests, arithmetic and starts, inside and outside in turns."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lab.bench.processes import ROOT, BenchError, end, start, table, wait_until
from lab.bench.report import Bench, Figure, Scenario, at_least, median, over_rounds
from sluice.box.environment import dump
from tests.integration.login import PYTHON

Value = TypeVar("Value")
KINDS = ("bubblewrap", "none")
ACCOUNT = "64986"
ROUNDS, QUICK_ROUNDS = 9, 3
SLICES, SLICE = 12, 0.25
STARTS = 5
TOKENS = 200
# The best of several: what else runs can only lengthen one.
LOOP = """\
import time
def once():
    began, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number * number % 7
    return time.process_time() - began
print(min(once() for _ in range(10)))
"""


@dataclass(frozen=True)
class Node:
    """A folder that the account of these measurements may use, with the program in it."""

    root: Path
    zipapp: Path

    def command(self, kind: str, *engine: str) -> list[str]:
        """Return the argv that runs a command in this kind of box."""
        private = self.root / secrets.token_hex(4) / "box"
        (private / "s").mkdir(parents=True)
        told = private.parent / "environment"
        told.write_bytes(dump({"PATH": "/usr/bin:/bin"}))
        for path in (private.parent, private, private / "s", told):
            shutil.chown(path, int(ACCOUNT), int(ACCOUNT))
        argv = ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", PYTHON, "-I", "-S"]
        argv += [str(self.zipapp), "box", "--kind", kind, "--private", str(private)]
        argv += [
            "--shared",
            str(private / "s"),
            "--environment",
            str(told),
            "--read",
            str(self.root / "engine"),
        ]
        # A box is a session of its own, by which the kernel deals time: so is what it is compared with.
        own = [] if kind == "bubblewrap" else ["setsid"]
        return [*argv, "--", *own, *(word.replace("SHARED", str(private / "s")) for word in engine)]


@contextlib.contextmanager
def node(bench: Bench) -> Iterator[Node]:
    """Copy the program and the stub engine to where any account can read them."""
    root = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    root.chmod(0o755)
    try:
        zipapp = Path(shutil.copy(bench.build.zipapp, root / "sluice.pyz"))
        (root / "engine").mkdir()
        shutil.copy(ROOT / "lab" / "bench" / "engine.py", root / "engine")
        for path in (zipapp, root / "engine" / "engine.py"):
            path.chmod(0o644)
        yield Node(root, zipapp)
    finally:
        shutil.rmtree(root)


@contextlib.contextmanager
def serving(place: Node, kind: str) -> Iterator[Path]:
    """Run the stub engine in this kind of box; yield its socket."""
    program = str(place.root / "engine" / "engine.py")
    argv = place.command(kind, PYTHON, program, "--socket", "SHARED/e.sock", "--port-file", "SHARED/port")
    log = place.root / f"{kind}.log"
    process = start(argv, log)
    try:
        path = Path(argv[argv.index("--shared") + 1]) / "e.sock"
        wait_until(path, process, log)
        yield path
    finally:
        process.kill()
        end(process)


def asked(path: Path, seconds: float) -> tuple[int, float, float]:
    """Return how many requests one connection got answered, the seconds, and the engine's CPU seconds."""
    body = json.dumps({"model": "bench", "max_tokens": TOKENS}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(body)}\r\n\r\n"
    request, count = head.encode() + body, 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        began, spent = time.monotonic(), cpu(path)
        while time.monotonic() < began + seconds:
            client.sendall(request)
            _read_answer(client)
            count += 1
        return count, time.monotonic() - began, cpu(path) - spent


def cpu(path: Path) -> float:
    """Return the CPU seconds of the engine that listens at a path, and of the box around it."""
    return sum(process.cpu for process in table().values() if str(path) in process.argv)


def rates(sockets: dict[str, Path], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return requests per second, and per CPU second of the engine; a round is many short turns.

    Elapsed time alone says little while other programs use the machine.
    """
    walls: dict[str, list[float]] = {kind: [] for kind in KINDS}
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        slices = in_turns(SLICES, lambda kind: asked(sockets[kind], SLICE))
        for kind, found in slices.items():
            count, seconds, spent = (sum(part) for part in zip(*found, strict=True))
            walls[kind].append(count / seconds)
            costs[kind].append(count / max(spent, 0.01))
    return walls, costs


def _read_answer(client: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(client)
    head, _, rest = data.partition(b"\r\n\r\n")
    left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(rest)
    while left > 0:
        left -= len(_received(client))


def _received(client: socket.socket) -> bytes:
    piece = client.recv(65_536)
    if not piece:
        raise BenchError("the engine hung up")
    return piece


def said(argv: list[str]) -> str:
    """Return the output of a command. Raises BenchError."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise BenchError(f"{argv[0]}: {done.stderr[-500:]}")
    return done.stdout


def run(bench: Bench) -> list[Figure]:
    """Measure."""
    rounds = QUICK_ROUNDS if bench.quick else ROUNDS
    with node(bench) as place:
        with serving(place, "bubblewrap") as inside, serving(place, "none") as outside:
            walls, costs = rates(dict(zip(KINDS, (inside, outside), strict=True)), rounds)
        loops = in_turns(rounds, lambda kind: 1 / float(said(place.command(kind, PYTHON, "-c", LOOP))))
        starts = in_turns(STARTS, lambda kind: timed(place.command(kind, "true")))
    return [
        over_rounds("requests/s, engine in its box of outside", ratios(walls), "times"),
        over_rounds(
            "requests/s of CPU, engine in its box of outside", ratios(costs), "times", at_least(0.98)
        ),
        over_rounds("arithmetic, engine in its box of outside", ratios(loops), "times", at_least(0.98)),
        Figure(
            "the box adds to an engine's start",
            1000 * (median(starts["bubblewrap"]) - median(starts["none"])),
            "ms",
        ),
    ]


def timed(argv: list[str]) -> float:
    """Return how long a command takes."""
    began = time.monotonic()
    said(argv)
    return time.monotonic() - began


def in_turns(rounds: int, measure: Callable[[str], Value]) -> dict[str, list[Value]]:
    """Measure inside and outside in turns; the first one alternates from round to round."""
    found: dict[str, list[Value]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS if number % 2 else reversed(KINDS):
            found[kind].append(measure(kind))
    return found


def ratios(found: dict[str, list[float]]) -> list[float]:
    """Return the ratio of inside to outside for each round."""
    return [one / other for one, other in zip(found["bubblewrap"], found["none"], strict=True)]


SCENARIOS = (Scenario("box", "an engine in its box beside the same one outside", run),)
