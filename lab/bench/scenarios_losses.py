"""Scenarios in which nothing may be lost: bursts, a killed session, clients that leave."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from typing import Any

from lab.bench import processes
from lab.bench.generator import Group, Load, Plan, run
from lab.bench.processes import BenchError
from lab.bench.report import Bench, Figure, Scenario, at_least, at_most
from lab.bench.stack import Options, Stack

BURST = 256
MANY = 1000
HELD = 200
SESSION_AGE = 4.0
ERROR_EVENT = "error event "


def lost(results: Mapping[str, Any], group: str) -> dict[str, int]:
    """Return how many answers of a group were not complete, by kind."""
    outcomes: dict[str, int] = results["groups"][group]["outcomes"]
    return {outcome: count for outcome, count in outcomes.items() if outcome != "ok"}


def bursts(bench: Bench) -> list[Figure]:
    """A stack that has just started gets 256 new connections at once, then 1,000 streams at once."""
    bench.renew()
    target = bench.stack().target("sluice")
    burst = Group("burst", BURST, requests=BURST, tokens=20, rate=20.0, fresh=True)
    cold = run(Plan(target, (burst,), 30.0))
    many = Group("many", MANY, requests=MANY, ramp=1.0, tokens=50, rate=5.0)
    after = run(Plan(target, (many,), 30.0))
    return [
        loss(bench, "lost or truncated, cold burst of 256 connections", cold, burst),
        Figure("first token of the burst, p99", cold["groups"]["burst"]["first"]["p99"], "ms"),
        loss(bench, "lost or truncated, 1,000 concurrent streams", after, many),
    ]


def loss(bench: Bench, title: str, results: Mapping[str, Any], group: Group) -> Figure:
    """Return the figure for the lost answers of a group."""
    wrong = lost(results, group.name)
    if wrong:
        bench.say(f"{title}: {wrong}")
    missing = group.requests - int(results["groups"][group.name]["started"]) if group.requests else 0
    return Figure(title, sum(wrong.values()) + missing, "answers", at_most(0))


def killed(bench: Bench) -> list[Figure]:
    """One SSH session is killed during 200 streams, while new requests arrive."""
    stack = bench.stack()
    streams = Group("streams", HELD, requests=HELD, ramp=1.0, tokens=60, rate=5.0)
    trickle = Group("new", 64, arrivals=25.0, poisson=False, stream=False, tokens=8)
    with Load(Plan(stack.target("sluice"), (streams, trickle), 16.0)) as load:
        if not load.wait(lambda groups: groups["streams"]["flowing"] >= HELD, 15):
            raise BenchError(f"{HELD} streams did not open: {load.figures}")
        kill_session(stack)
        results = load.results()
    outcomes = results["groups"]["streams"]["outcomes"]
    bench.say(f"{HELD} streams when one session was killed: {outcomes}")
    told = sum(count for name, count in outcomes.items() if name.startswith(ERROR_EVENT))
    if not told and outcomes.get("ok", 0) == HELD:
        raise BenchError("the session that was killed carried no stream")
    return [
        Figure("session killed: its streams that ended with an error event", told, "streams"),
        Figure(
            "session killed: streams that ended otherwise",
            HELD - outcomes.get("ok", 0) - told, "streams", at_most(0),
        ),
        loss(bench, "session killed: new requests that failed", results, trickle),
        Figure("session killed: slowest new request", results["groups"]["new"]["latency"]["max"], "ms"),
    ]  # fmt: skip


def kill_session(stack: Stack) -> None:
    """Kill the sshd processes of the busiest session, as the kernel does if memory is short."""
    before = processes.table()
    time.sleep(1.0)
    after = processes.table()
    sessions = stack.sessions()
    if len(sessions) < 2:
        raise BenchError(f"there are {len(sessions)} sessions, not 2")
    busiest = max(sessions, key=lambda one: after[one.relay].cpu - before[one.relay].cpu)
    for pid in busiest.sshd:
        os.kill(pid, signal.SIGKILL)


def rotating(bench: Bench) -> list[Figure]:
    """During streams and new requests, sessions are replaced every few seconds, and the program once."""
    stack = bench.stack(Options(proxy={"proxy_session_age": SESSION_AGE}))
    streams = Group("streams", HELD, requests=HELD, ramp=1.0, tokens=60, rate=5.0)
    trickle = Group("new", 64, arrivals=50.0, poisson=False, stream=False, tokens=8)
    relays: set[int] = set()
    with Load(Plan(stack.target("sluice"), (streams, trickle), 16.0)) as load:
        for second in range(16):
            if second == 6:
                replace_program(stack)
            relays.update(session.relay for session in stack.sessions())
            time.sleep(1.0)
        results = load.results()
    return [
        Figure("sessions that served while sessions rotate", len(relays), "sessions", at_least(5)),
        loss(bench, "lost or truncated while sessions rotate, streams", results, streams),
        loss(bench, "lost or truncated while sessions rotate, new requests", results, trickle),
        Figure("slowest new request while sessions rotate", results["groups"]["new"]["latency"]["max"], "ms"),
    ]


def replace_program(stack: Stack) -> None:
    """Install the zipapp again, as an upgrade does: by rename."""
    installed = stack.login.directory / "sluice.pyz"
    fresh = installed.with_suffix(".new")
    shutil.copy(stack.build.zipapp, fresh)
    fresh.replace(installed)


def leaving(bench: Bench) -> list[Figure]:
    """Clients leave during a stream and while they wait for a whole answer; the engine must stop."""
    stack = bench.stack()
    figures = []
    for name, stream in (("a stream", True), ("a whole answer", False)):
        group = Group(
            "leaving", 16, requests=16, ramp=4.0, stream=stream, tokens=400, rate=20.0,
            delay=0.0 if stream else 20.0, leave_after=0.5,
        )  # fmt: skip
        results = run(Plan(stack.target("sluice"), (group,), 8.0))
        left = sorted(results["groups"]["leaving"]["left"])
        time.sleep(1.5)
        if len(left) != 16:
            raise BenchError(f"clients did not leave: {results['groups']['leaving']['outcomes']}")
        seen = sorted(one["at"] for one in stack.engine_journal()["left"] if one["at"] >= left[0])
        # Clients leave a quarter of a second after one another: the order tells which is which.
        late = [after - before for before, after in zip(left, seen)] + [20.0] * (16 - len(seen))
        title = f"client leaves {name}: until the engine knows, slowest of {len(left)}"
        figures.append(Figure(title, max(late) * 1000, "ms", at_most(1000)))
    return figures


SCENARIOS = (
    Scenario("bursts", "Bursts", bursts),
    Scenario("killed", "A killed session", killed),
    Scenario("rotating", "Sessions that rotate, a relay that is upgraded", rotating),
    Scenario("leaving", "Clients that leave", leaving),
)
