"""Runs the cases of one target in this process and watches its memory."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Optional

from lab.soak.targets import TARGETS

# No input may take longer, in seconds.
MOST_SECONDS = 10.0
# How much the process may grow after its first cases: objects, and KiB of resident memory.
MOST_OBJECTS = 3000
MOST_KIB = 24_576
WARM = 500


@dataclass(frozen=True)
class Outcome:
    """How a target's cases went; `worst`: of one case, in seconds of CPU. `problem` is empty if none."""

    target: str
    cases: int
    seconds: float
    worst: float
    grown_objects: int
    grown_kib: int
    problem: str = ""


class Hang(BaseException):
    """A case took too long."""


def run(name: str, seed: int, cases: int) -> Outcome:
    """Feed `cases` inputs to a target; the first that fails ends it, named by its seed."""
    logging.disable(logging.CRITICAL)
    before = signal.signal(signal.SIGALRM, _hang)
    try:
        return asyncio.run(_run(name, seed, cases))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        logging.disable(logging.NOTSET)


async def _run(name: str, seed: int, cases: int) -> Outcome:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(_describe(context)))
    target = TARGETS[name][1]()
    began, worst, problem, done = time.monotonic(), 0.0, "", 0
    base: Optional[tuple[int, int]] = None
    for number in range(cases):
        if number == min(WARM, cases // 4):
            base = await _memory(target)
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
        case = time.process_time()
        try:
            waits = target(Random(f"{seed}/{name}/{number}"))
            if inspect.isawaitable(waits):
                await waits
        except (Exception, Hang) as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            faults.append(f"{type(error).__name__}: {error}")
        worst = max(worst, time.process_time() - case)
        done += 1
        if faults:
            problem = f"case {number} of seed {seed}: {faults[0][:300]}"
            break
    objects, kib = await _memory(target)
    getattr(target, "close", bool)()
    grown = (objects - base[0], kib - base[1]) if base else (0, 0)
    if not problem and (grown[0] > MOST_OBJECTS or grown[1] > MOST_KIB):
        problem = f"memory grew by {grown[0]} objects and {grown[1]} KiB"
    return Outcome(name, done, time.monotonic() - began, worst, *grown, problem)


def _describe(context: dict[str, Any]) -> str:
    return f"{context.get('message')} {context.get('exception')!r}"


async def _memory(target: object) -> tuple[int, int]:
    """Return the objects and the KiB of this process, once the target's timers have let go of theirs."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    await asyncio.sleep(getattr(target, "settle", 0.0))
    gc.collect()
    return len(gc.get_objects()), _resident()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def _hang(number: int, frame: Optional[FrameType]) -> None:
    raise Hang(f"longer than {MOST_SECONDS} s")
