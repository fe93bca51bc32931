"""All at once: a colleague floods, jobs have hostile names, an engine is hostile, bodies are costly."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable

import pytest

from tests.system.hostile import hostile_model
from tests.system.load import Load
from tests.system.models import registered
from tests.system.neighbours import Meanwhile, costly, flood, jobs_with_hostile_names, key_of_another
from tests.system.service import LIGHT, MODEL, Service
from tests.trials import SOAK

STREAMS = 50
TOKENS = 6
# Of either: the attacks come again and again all the time. `make soak` goes on for longer.
SECONDS = 120.0 if SOAK else 15.0
Wait = Callable[[Callable[[], object], float, str], None]


def p99(waits: list[float]) -> float:
    """Return the 99th percentile."""
    ordered = sorted(waits)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def ask_each_second(service: Service, until: float) -> list[tuple[int, float]]:
    """Ask the first model a question a second; return status and seconds of each."""
    found = []
    while time.monotonic() < until:
        began = time.monotonic()
        answer = service.chat(f"Say hi to {secrets.token_hex(4)}.", max_tokens=2)
        found.append((answer.status, time.monotonic() - began))
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    return found


def under_load(service: Service, steady: str) -> tuple[Load, list[tuple[int, float]]]:
    """Run 50 streams and a request a second beside each other for a while."""
    load = Load(service, steady, STREAMS, TOKENS)
    load.start()
    try:
        asked = ask_each_second(service, time.monotonic() + SECONDS)
    finally:
        load.stop()
    return load, asked


@pytest.mark.timeout(900)
def test_no_neighbour_costs_another_a_request(service: Service, eventually: Wait) -> None:
    service.wait_answering(180)
    slurm = {"partition": "normal", "time": 60}
    with registered(service, "steady", LIGHT, min=1, slurm=slurm) as steady:
        eventually(lambda: service.ready(steady), 120, "the model of the streams serves")
        before = set(service.live_jobs() + service.live_jobs(steady))
        quiet, calm = under_load(service, steady)
        key = key_of_another(service)
        attackers = (
            lambda: flood(service, "login", 5),
            lambda: flood(service, "c1", 5),
            lambda: costly(service, key),
        )
        with (
            hostile_model(service) as hostile,
            jobs_with_hostile_names(service),
            Meanwhile(*attackers, lambda: service.chat("hi", hostile)) as attack,
        ):
            noisy, asked = under_load(service, steady)
        after = set(service.live_jobs() + service.live_jobs(steady))
    print(f"quiet: {quiet.figures()}; p99 of a question {p99([wait for _, wait in calm]):.2f} s")
    print(f"noisy: {noisy.figures()}; p99 of a question {p99([wait for _, wait in asked]):.2f} s")
    assert not attack.ended, "an attack ended by a fault of its own"
    assert attack.turns >= 4
    assert not noisy.problems(), noisy.problems()
    assert {status for status, _ in asked} == {200}
    assert after == before, "no instance was given up"
    assert MODEL in {job.split(":", 1)[1].rsplit("-", 1)[0] for _, job, _ in service.jobs()}
