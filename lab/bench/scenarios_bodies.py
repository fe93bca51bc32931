"""Scenarios of large bodies: their cost compared with the engine alone, and how they delay other streams."""

from __future__ import annotations

from lab.bench.generator import Group, Load, Plan, run
from lab.bench.processes import BenchError
from lab.bench.report import Bench, Figure, Scenario, at_most, over_rounds
from lab.bench.scenarios_streams import PACE, all_well

MEGABYTE = 1_000_000
LARGE = 20 * MEGABYTE


def upload(bench: Bench) -> list[Figure]:
    """The time of a 20 MB body through the whole stack, compared with the engine alone."""
    stack = bench.stack()
    group = Group("upload", 1, requests=3 if bench.quick else 8, stream=False, tokens=1, body=LARGE)
    found: dict[str, list[float]] = {"direct": [], "nginx": [], "sluice": []}
    for _ in range(1 if bench.quick else 2):
        for name, times in found.items():
            before = stack.engine_journal()["bytes_in"]
            done = all_well(run(Plan(stack.target(name), (group,), 60.0)), "upload")
            arrived = stack.engine_journal()["bytes_in"] - before
            if arrived < group.requests * LARGE:
                raise BenchError(f"only {arrived} bytes of {group.requests} bodies reached the engine")
            times.append(done["latency"]["p50"])
    over = [one - other for one, other in zip(found["sluice"], found["direct"], strict=True)]
    return [
        *(over_rounds(f"20 MB body, p50, {name}", times, "ms") for name, times in found.items()),
        over_rounds("20 MB body, p50, sluice over direct", over, "ms", at_most(200)),
    ]


def beside_uploads(bench: Bench) -> list[Figure]:
    """The delay of the tokens of 16 streams while 20 MB bodies are sent, four at a time."""
    stack = bench.stack()
    seconds = 5.0 if bench.quick else 12.0
    target = stack.target("sluice")
    streams = Group("streams", 16, requests=16, ramp=0.8, tokens=int((seconds + 3) * PACE), rate=PACE)
    uploads = Group("uploads", 4, stream=False, tokens=1, body=LARGE)
    plan = Plan(target, (streams,), seconds + 2, measure_from=2.0, measure_until=seconds + 2)
    alone = all_well(run(plan), "streams")["delay"]
    with Load(Plan(target, (uploads,), seconds + 2)) as load:
        beside = all_well(run(plan), "streams")["delay"]
        load.stop()
        done = load.results()["groups"]["uploads"]
    refused = sum(count for name, count in done["outcomes"].items() if name not in ("ok", "unfinished"))
    return [
        Figure("token delay p99 of 16 streams, before the uploads", alone["p99"], "ms"),
        Figure("the same beside four uploads of 20 MB", beside["p99"], "ms", at_most(20)),
        Figure("token delay p50 beside them", beside["p50"], "ms"),
        Figure("bodies that went up beside them", done["outcomes"].get("ok", 0) / seconds, "1/s"),
        Figure("bodies that were refused", refused, "bodies", at_most(0)),
    ]


SCENARIOS = (
    Scenario("upload", "A body of 20 MB", upload),
    Scenario("uploads", "Streams beside large bodies", beside_uploads),
)
