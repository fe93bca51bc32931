"""An engine that answers its health check and gives nothing: what its front says, and what follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.models import ModelEntry
from sluice.scheduler.instances.instance import Phase, answered, hung, phase, unanswered, without_run
from sluice.scheduler.outside import probe
from sluice.scheduler.outside.front_client import Answer
from sluice.scheduler.policy.memory import STALL_MEMORY
from sluice.scheduler.policy.policy import (
    MAX_BACKOFF,
    STEADY,
    Cancel,
    Decision,
    Drain,
    Memory,
    Orders,
    SiteSettings,
    Submit,
    failed,
)
from sluice.scheduler.publish import routing
from tests.unit.scheduler.policy_cases import MODEL, NOW, RECORD, decided, ready, starting
from tests.unit.scheduler.site import Site
from tests.unit.scheduler.world import World

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts" / "front-health-stalled.json"
KEPT = replace(MODEL, min=1, max=1)
TWO = replace(MODEL, min=2)
ENTRY = ModelEntry.parse(
    {
        "version": 1,
        "name": "m",
        "engine": "vllm",
        "weights": "/w",
        "context_length": 1,
        "slurm": {"partition": "p", "time": 60, "cpus": 1, "memory_mb": 1},
    }
)


def cancelled(decision: Decision) -> list[str]:
    """Return which instances a decision ends."""
    return [action.instance for action in decision.actions if isinstance(action, Cancel)]


# --- what the front says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "stalled"),
    [
        (GOLDEN.read_bytes(), 420),
        (b'{"version":1,"status":"ok"}', 0),
        (b'{"version":1,"status":"ok","stalled":-1}', 0),
        (b'{"version":1,"status":"ok","stalled":"420"}', 0),
        (b'{"version":1,"status":"ok","stalled":true}', 0),
        (b'{"version":1,"status":"ok","stalled":1e300}', 0),
        (b'{"version":1,"status":"leaving","why":"warned","stalled":5}', 5),
        (b"[5]", 0),
    ],
)
def test_a_front_says_for_how_long_its_engine_gives_nothing(
    monkeypatch: pytest.MonkeyPatch, body: bytes, stalled: int
) -> None:
    monkeypatch.setattr(probe, "ask", lambda *_: Answer(200, "", body))
    found = probe.healthy(RECORD, 5)
    assert (found.problem, found.stalled) == ("", stalled)


def test_a_stall_is_what_was_said_last() -> None:
    one = answered(ready(), NOW, 100)
    assert one.stalled == 100
    assert answered(one, NOW, 100) is one
    # A probe that fails says nothing of it, and a new run has another engine.
    assert unanswered(one, NOW).stalled == 100
    assert answered(one, NOW).stalled == 0
    assert without_run(one).stalled == 0


def test_only_a_ready_instance_hangs_and_only_after_its_models_time() -> None:
    assert [hung(ready(stalled=said), 900) for said in (0, 899, 900)] == [False, False, True]
    assert not hung(ready(stalled=10**6), 0)
    assert not hung(starting(stalled=900), 900)


# --- the policy ---------------------------------------------------------------------------------------------


def test_an_instance_that_gives_nothing_is_ended_and_replaced_after_the_back_off() -> None:
    one = ready(stalled=900)
    decision = decided([one], model=KEPT)
    assert cancelled(decision) == [one.id]
    memory = decision.memory["m"]
    assert (memory.failures, memory.stalls, memory.stalled_at) == (1, 1, NOW)
    assert "no output of its engine for 900 s" in memory.message
    ending = replace(one, cancelled_at=NOW)
    assert decided([ending], model=KEPT, memory=memory, now=NOW + 1).actions == ()
    later = decided([ending], model=KEPT, memory=memory, now=memory.retry_at)
    assert later.actions == (Submit("m"),)


def test_a_shorter_silence_ends_nothing() -> None:
    assert decided([ready(stalled=899)], model=KEPT).actions == ()


def test_a_model_may_be_left_alone_however_long_it_is_silent() -> None:
    assert decided([ready(stalled=10**6)], model=replace(KEPT, stall_timeout=0)).actions == ()


def test_several_that_hang_at_once_count_once() -> None:
    decision = decided([ready(1, stalled=900), ready(2, stalled=950)], model=TWO)
    assert len(cancelled(decision)) == 2
    assert (decision.memory["m"].failures, decision.memory["m"].stalls) == (1, 1)


def test_one_that_works_stays_and_serves_while_another_is_replaced() -> None:
    decision = decided([ready(1), ready(2, stalled=900)], model=TWO)
    assert cancelled(decision) == ["m-00000002"]
    assert not any(isinstance(action, (Drain, Submit)) for action in decision.actions)


@pytest.mark.parametrize(
    "changes", [{"draining_since": NOW - 5, "drain_reason": "idle"}, {"leaving": "warned"}]
)
def test_one_that_goes_anyway_counts_as_no_failure(changes: dict[str, Any]) -> None:
    assert decided([ready(stalled=900, **changes)], model=KEPT).memory["m"].failures == 0


def test_nothing_is_ended_while_the_queue_is_unknown_or_the_entry_held() -> None:
    assert decided([ready(stalled=900)], model=KEPT, known=False).actions == ()
    assert decided([ready(stalled=900)], model=KEPT, unusable=True).actions == ()


def test_an_administrators_order_forgets_stalls() -> None:
    before = Memory(digest="d1", stalls=4, stalled_at=NOW - 60, failures=4, retry_at=NOW + 500)
    memory = decided([], model=KEPT, memory=before, orders=Orders(given=NOW)).memory["m"]
    assert (memory.stalls, memory.failures) == (0, 0)


def live(world: World, seconds: float, *, poison: bool) -> None:
    """Let jobs start, become ready, and hang at once, if somebody sees to that, for so long."""
    for _ in range(int(seconds // 30)):
        world.now += 30
        for name in list(world.jobs):
            world.progress(name, "go on")
            if poison:
                world.progress(name, "hang")
        world.observe(world.visible())
        world.act(world.decide())
        assert len(world.alive("m")) <= 1


def test_whoever_makes_each_engine_hang_has_ever_fewer_of_them_ended() -> None:
    world = World({"m": replace(KEPT, stall_timeout=900)}, SiteSettings(max_instances=4), wall_time=1e9)
    waits, began = [], 0
    while world.now < 1_795_000_000.0 + 12 * 3600:
        live(world, 30, poison=True)
        memory = world.memory["m"]
        if memory.stalls > began:
            began = memory.stalls
            waits.append(memory.retry_at - memory.failed_at)
    # They come up and are steady between, which clears failed starts: stalls are counted all the same.
    assert waits[:5] == [10, 20, 40, 80, MAX_BACKOFF]
    assert set(waits[5:]) == {MAX_BACKOFF}
    assert len(waits) <= 12 * 3600 / (900 + STEADY + 10)
    assert failed(replace(world.memory["m"], failures=began), world.settings)
    # The loop over, it serves at once, and a stall of another day is one.
    live(world, STALL_MEMORY + 1200, poison=False)
    assert phase(next(iter(world.instances.values()))) is Phase.READY
    assert world.memory["m"].failures == 0
    live(world, 960, poison=True)
    assert world.memory["m"].stalls == 1


# --- what relays are told -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "state", "status"),
    [(0, "ready", "ready"), (60, "ready", "ready"), (900, "draining", "starting")],
)
def test_relays_learn_of_a_stall_and_send_nothing_more_to_one_that_hangs(
    said: int, state: str, status: str
) -> None:
    outcome = routing.ModelOutcome(1, False, Memory())
    table = routing.routed_models({"m": ENTRY}, [ready(stalled=said)], {"m": outcome}, True, NOW)
    (one,) = table["m"].instances
    assert (one.state, one.stalled, table["m"].status) == (state, bool(said), status)


# --- whole ticks


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.apply(min=1, max=1)
    return made


def test_an_instance_is_followed_from_its_first_silence_to_its_successor(site: Site) -> None:
    first = site.up()
    site.tick(120)
    site.stalled = 30
    site.tick()
    (one,) = site.table().models["m"].instances
    assert (one.id, one.state, one.stalled) == (first, "ready", True)
    site.stalled = 0
    site.tick()
    assert not site.table().models["m"].instances[0].stalled
    site.stalled = 900
    site.tick()
    assert (site.routed(), site.slurm.alive()) == ({}, [])
    site.stalled = 0
    site.tick()
    assert site.slurm.alive() == []
    site.tick(15)
    (job,) = site.slurm.alive()
    assert job.name != f"sluice:{first}"


def test_what_relays_were_answered_does_not_take_the_fronts_word_away(site: Site) -> None:
    first = site.up()
    site.stalled = 30
    site.tick()
    site.healthy.clear()
    # A count of tokens, say, that needs nothing of what hangs.
    site.demand(running=1, answered={first: int(site.now)})
    site.tick()
    assert site.table().models["m"].instances[0].stalled
