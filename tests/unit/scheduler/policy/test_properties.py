"""The policy over whole histories of a Slurm that fails in every way (`world`): what always holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sluice.scheduler.instances.instance import BURST, Instance, Phase, hung, only_completing, phase
from sluice.scheduler.policy import ledger
from sluice.scheduler.policy.job_checks import requeued
from sluice.scheduler.policy.plan import HELP_AFTER
from sluice.scheduler.policy.policy import (
    DRAIN_GRACE,
    MAX_BACKOFF,
    Cancel,
    Decision,
    ModelSettings,
    Orders,
    SiteSettings,
    Submit,
)
from tests.trials import examples
from tests.unit.scheduler.world import ENDS, World

NAMES = ("a", "b", "c")
COMING = (Phase.SUBMITTING, Phase.PENDING, Phase.STARTING)

changes = st.sampled_from(
    [
        *("go on",) * 24,
        *("", "sick", "hang", "requeue", "vanish", "warn", "complete"),
        *("suspend", "hold", "release", "stuck", "maintenance", "no account", *ENDS),
    ]
)
steps = st.fixed_dictionaries(
    {
        "seconds": st.sampled_from([1.0, 2.0, 2.0, 8.0, 15.0, 31.0, 130.0, 1000.0]),
        "queue": st.sampled_from(["known", "known", "known", "known", "unknown", "empty"]),
        "scontrol": st.booleans(),
        "sbatch": st.sampled_from(
            ["ok", "ok", "ok", "ok", "lost", "invalid", "limit", "site", "away", "plugin"]
        ),
        "asked": st.tuples(*(st.sampled_from([None, None, 0, 1, 4, 12, 12]) for _ in NAMES)),
        "digest": st.sampled_from(["", "", "", "d1", "d2", "d3"]),
        "order": st.sampled_from(["", "", "", "", "drain", "resume", "restart", "restart one"]),
        "changes": st.lists(changes, min_size=6, max_size=6),
        "all": st.sampled_from(["go on"] * 9 + ["warn", "warn", "suspend", "sick", "PREEMPTED"]),
    }
)


def model(name: str) -> Any:
    """Return models of one name."""
    return st.builds(
        ModelSettings,
        name=st.just(name),
        digest=st.just("d1"),
        min=st.integers(0, 1),
        max=st.integers(1, 3),
        concurrency=st.just(4),
        idle_stop=st.sampled_from([60.0, 900.0]),
        start_timeout=st.sampled_from([60.0, 600.0]),
        priority=st.integers(-1, 1),
        burst=st.integers(0, 2),
        gpus=st.integers(0, 2),
        nodes=st.integers(1, 2),
        warn=st.sampled_from([0.0, 120.0]),
        slurm_scope=st.sampled_from(["x", "y"]),
        stall_timeout=st.sampled_from([0.0, 60.0, 900.0]),
    )


def several(most: int) -> Any:
    """Return one to `most` models by name."""
    lists = st.integers(1, most).flatmap(lambda count: st.tuples(*(model(name) for name in NAMES[:count])))
    return lists.map(lambda found: {one.name: one for one in found})


sites = st.builds(
    SiteSettings,
    max_instances=st.integers(2, 12),
    max_gpus=st.sampled_from([0, 0, 4, 8]),
    max_nodes=st.sampled_from([0, 0, 6]),
)


def usable(world: World, instance: Instance) -> bool:
    """Whether an instance serves, or will, and need not be replaced but for the end of its time."""
    orders, one = world.orders.get(instance.model, Orders()), instance
    return (
        one.draining_since is None
        and not one.leaving
        and one.digest == world.models[one.model].digest
        and one.id not in orders.replace
        and one.created >= orders.restart
        and (one.ends is None or one.ends - world.now > 1000.0)
        and not requeued(one)
        and not hung(one, world.models[one.model].stall_timeout)
        and phase(one) in (*COMING, Phase.READY)
    )


def check(world: World, decision: Decision, before: dict[str, Instance]) -> None:
    """Assert what holds after every tick."""
    for name, one in world.models.items():
        check_model(world, one, decision, [kept for kept in before.values() if kept.model == name])
    for job in world.alive():
        assert any(one.name == job.name for one in world.instances.values()), f"{job.name} was forgotten"
    for action in decision.actions:
        if isinstance(action, Cancel):
            check_cancelled(world, before[action.instance])
    check_room(world)


def check_model(world: World, one: ModelSettings, decision: Decision, before: list[Instance]) -> None:
    """Assert the bounds of one model, and that no need was met twice."""
    submitted = sum(isinstance(action, Submit) and action.model == one.name for action in decision.actions)
    orders = world.orders.get(one.name, Orders())
    wanted = decision.wanted[one.name]
    assert wanted <= (0 if orders.drained else one.max + one.burst)
    late = sum(
        phase(kept) is Phase.PENDING and world.now - kept.created >= HELP_AFTER and kept.kind != BURST
        for kept in before
    )
    need = wanted + min(late, one.burst) - sum(usable(world, kept) for kept in before)
    assert submitted <= max(0, need), "two submissions for one need"
    alive = {job.name for job in world.alive(one.name)}
    mine = [
        kept
        for kept in world.instances.values()
        if kept.model == one.name and kept.name in alive and not only_completing(kept)
    ]
    assert sum(kept.kind != BURST for kept in mine) <= one.max + 1
    assert len(mine) <= one.max + one.burst + 1


def check_cancelled(world: World, instance: Instance) -> None:
    """Assert that no instance ends while it has requests, but at a hard limit."""
    if not world.open_before.get(instance.id) or phase(instance) is not Phase.READY:
        return
    if hung(instance, world.models[instance.model].stall_timeout):
        # What runs on it gets nothing.
        return
    since = instance.draining_since
    assert since is not None
    assert world.now - since >= world.settings.drain_timeout


def check_room(world: World) -> None:
    """Assert that all instances together keep to the site's bounds."""
    held = list(world.instances.values())
    assert len(held) <= world.settings.max_instances
    for bound, taken in (
        (world.settings.max_gpus, sum(one.gpus for one in held)),
        (world.settings.max_nodes, sum(one.asked_nodes for one in held)),
    ):
        assert not bound or taken <= bound


def happen(world: World, step: dict[str, Any]) -> None:
    """Let the jobs change: first what befalls all alike, then each for itself."""
    for name in list(world.jobs):
        world.progress(name, step["all"])
    for name, change in zip(list(world.jobs), step["changes"]):
        world.progress(name, change)


def tick(world: World, step: dict[str, Any]) -> Decision:
    """Observe, decide and act once, as the step says; return what was decided."""
    # An answer that is empty though Slurm has jobs: it counts as an answer, and must not be believed.
    visible = {"known": world.visible(), "empty": [], "unknown": None}[step["queue"]]
    if step["queue"] == "empty" and any(not one.job_id for one in world.instances.values()):
        visible = world.visible()
    world.observe(visible, step["scontrol"])
    for name, asked in zip(world.models, step["asked"]):
        if asked is not None:
            world.serve(name, asked)
    before, world.open_before = dict(world.instances), dict(world.open)
    decision = world.decide(known=visible is not None)
    world.act(decision, step["sbatch"])
    if visible is None:
        assert decision.actions == ()
    check(world, decision, before)
    return decision


@examples(100)
@given(several(3), sites, st.lists(steps, min_size=1, max_size=30))
def test_no_history_breaks_a_bound_or_brings_duplicates_or_orphans(
    models: dict[str, ModelSettings], site: SiteSettings, history: list[dict[str, Any]]
) -> None:
    world = World(models, site)
    for step in history:
        world.now += step["seconds"]
        world.end_overdue()
        if step["digest"]:
            world.models["a"] = replace(world.models["a"], digest=step["digest"])
        world.order("a", step["order"])
        happen(world, step)
        tick(world, step)


@examples(40)
@given(several(3), sites, st.lists(steps, min_size=5, max_size=30), st.integers(1, 3), st.integers(1, 6))
def test_what_is_bounded_over_time_is_kept_whatever_is_asked(
    models: dict[str, ModelSettings],
    site: SiteSettings,
    history: list[dict[str, Any]],
    colds: int,
    hours: int,
) -> None:
    site = replace(site, max_gpus=0, cold_starts_per_hour=colds, gpu_hours_per_day=float(hours))
    world = World({name: replace(one, min=0, gpus=40) for name, one in models.items()}, site)
    for step in history:
        world.now += step["seconds"]
        happen(world, step)
        spent = ledger.spent(ledger.advance(world.account, world.instances.values(), world.now), world.now)
        decision = tick(world, {**step, "queue": "known"})
        if spent.gpu_hours >= hours:
            assert not any(isinstance(action, Submit) for action in decision.actions)
            assert set(decision.wanted.values()) == {0}
        assert ledger.spent(world.account, world.now).cold_starts <= colds


@examples(40)
@given(several(3), sites, st.lists(steps, min_size=1, max_size=15))
def test_every_history_comes_to_rest(
    models: dict[str, ModelSettings], site: SiteSettings, history: list[dict[str, Any]]
) -> None:
    """Deciding again at the same moment, with what was decided done, soon decides nothing: no flapping."""
    world = World(models, site)
    for step in history:
        world.now += step["seconds"]
        happen(world, step)
        tick(world, {**step, "queue": "known", "sbatch": "ok"})
    for _ in range(20):
        world.observe(world.visible())
        decision = world.decide()
        world.act(decision)
        if not decision.actions:
            break
    world.observe(world.visible())
    assert world.decide().actions == ()


@examples(30)
@given(several(2), st.lists(st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]), min_size=1, max_size=20))
def test_an_outage_of_any_length_cancels_forgets_and_duplicates_nothing(
    models: dict[str, ModelSettings], outage: list[float]
) -> None:
    world = World({name: replace(one, min=1) for name, one in models.items()}, SiteSettings(max_instances=12))
    for change in ("", "start", "ready", ""):
        world.now += 2
        for name in list(world.jobs):
            world.progress(name, change)
        world.observe(world.visible())
        world.act(world.decide())
    before = set(world.instances)
    assert len(before) == len(world.alive()) == len(models)
    for seconds in outage:
        world.now += seconds
        world.observe(None, False)
        for name in world.models:
            world.serve(name, 8)
        decision = world.decide(known=False)
        assert decision.actions == ()
        world.act(decision)
        assert all(phase(one) is Phase.READY for one in world.instances.values())
    for name in world.models:
        world.serve(name, 1)
    assert set(world.instances) == before
    # Long jobs may have come to the end of their time: a successor is then due, and nothing else.
    world.observe(world.visible())
    for action in world.decide().actions:
        assert isinstance(action, Submit)


@examples(16)
@given(
    model("a"),
    st.lists(st.sampled_from([0.0, 3.0, 40.0]), min_size=1, max_size=4),
    st.sampled_from(["FAILED", "NODE_FAIL", "PREEMPTED", "invalid", "limit", "plugin", "stuck", "slow"]),
    st.sampled_from([2.0, 30.0]),
)
def test_what_never_comes_up_is_tried_again_within_a_bound_and_never_in_a_tight_loop(
    one: ModelSettings, lives: list[float], how: str, interval: float
) -> None:
    world = World({"a": replace(one, min=1)}, SiteSettings(max_instances=9))
    tried: list[float] = []
    for turn in range(200):
        world.now += interval if turn < 100 else 30.0
        fail(world, how, lives[turn % len(lives)])
        world.observe(world.visible())
        decision = world.decide()
        world.act(decision, how if how in ("invalid", "limit", "plugin") else "ok")
        tried += [world.now for action in decision.actions if isinstance(action, Submit)]
    gaps = [late - early for early, late in zip(tried, tried[1:])]
    assert min(gaps) >= world.settings.retry_backoff
    longest = MAX_BACKOFF + one.start_timeout + 3 * 30.0 + max(lives)
    assert max([*gaps, world.now - tried[-1]]) <= longest
    assert how not in ("FAILED", "invalid", "stuck", "slow") or sum(gap < 100 for gap in gaps) <= 4


def fail(world: World, how: str, life: float) -> None:
    """Let the jobs of a model fail, each so long after its start."""
    for job in world.alive():
        if job.state == "PENDING":
            world.progress(job.name, "stuck" if how == "stuck" else "start")
        elif how in ENDS and world.now - (job.started or world.now) >= life:
            world.progress(job.name, how)


@examples(10)
@given(
    st.lists(st.integers(-2, 2), min_size=2, max_size=4),
    st.integers(1, 2),
    st.lists(st.sampled_from([5.0, 60.0, 400.0]), min_size=1, max_size=5),
)
def test_no_model_is_starved_whatever_the_priorities(
    priorities: list[int], places: int, service: list[float]
) -> None:
    """More models than there is room for, all with requests for ever: each is served within a bound."""
    models = {
        f"m{place}": ModelSettings(f"m{place}", "d1", 0, 2, 1, 900.0, 600.0, priority=priority)
        for place, priority in enumerate(priorities)
    }
    world = World(models, SiteSettings(max_instances=places))
    waits, since = dict.fromkeys(models, 0.0), dict.fromkeys(models, world.now)
    done: dict[str, float] = {}
    for turn in range(300):
        world.now += 30.0
        for name in list(world.jobs):
            world.progress(name, "vanish")
        for change in ("ready", "start"):
            for job in world.alive():
                world.progress(job.name, change)
        world.observe(world.visible())
        for name in models:
            serve_or_wait(world, name, service[turn % len(service)], since, waits, done)
        world.act(world.decide())
    bound = len(models) * (600.0 + max(service) + DRAIN_GRACE + 6 * 30.0)
    assert max(waits.values()) <= bound


@examples(20)
@given(
    st.lists(
        st.tuples(
            st.integers(-2, 2),
            st.sampled_from("xyz"),
            st.sampled_from(["ok", "ok", "limit", "site", "away", "plugin", "invalid"]),
        ),
        min_size=2,
        max_size=6,
    ),
    st.integers(1, 3),
    st.sampled_from([7.0, 30.0]),
)
def test_every_model_that_slurm_would_take_is_submitted_whatever_it_refuses_to_others(
    rows: list[tuple[int, str, str]], least: int, interval: float
) -> None:
    """Refusals for ever, of any words, for models of any priority: whoever is not refused gets its jobs."""
    models = {
        f"m{place}": ModelSettings(
            f"m{place}", "d1", least, 3, 1, 900.0, 600.0, priority=priority, slurm_scope=scope
        )
        for place, (priority, scope, _) in enumerate(rows)
    }
    refusing = {f"m{place}": how for place, (_, _, how) in enumerate(rows) if how != "ok"}
    world = World(models, SiteSettings(max_instances=100))
    bound = least * len(models) * (MAX_BACKOFF + 3 * interval)
    began, tries = world.now, 0
    while world.now - began <= bound:
        world.now += interval
        world.observe(world.visible())
        decision = world.decide()
        tries += sum(isinstance(action, Submit) for action in decision.actions)
        world.act(decision, refusing=refusing)
    for name in models.keys() - refusing.keys():
        assert len(world.alive(name)) >= least, f"{name} was starved"
    # Kind to the controller: what is refused is asked for seldom, by each model and by each account.
    assert tries <= len(models) * (3 * least + 8 + bound / MAX_BACKOFF * (2 + least))


def serve_or_wait(
    world: World,
    name: str,
    service: float,
    since: dict[str, float],
    waits: dict[str, float],
    done: dict[str, float],
) -> None:
    """Let one request of the model run for a while once it is taken, and the next wait a minute after it."""
    if name in done and world.now < done[name]:
        return
    if name in done and since[name] == 0.0:
        world.serve(name, 0)
        since[name] = world.now + 60.0
        return
    if since[name] > world.now:
        return
    world.serve(name, 1)
    waits[name] = max(waits[name], world.now - since[name])
    if not world.waiting[name]:
        done[name], since[name] = world.now + service, 0.0


@examples(12)
@given(st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sampled_from([7.0, 30.0]))
def test_handovers_at_the_wall_time_leave_no_moment_without_an_instance_and_cut_nothing(
    most: int, asked: list[int], interval: float
) -> None:
    """Jobs of half an hour, requests of up to two minutes, three handovers in a row and more."""
    world = World(
        {"a": ModelSettings("a", "d1", most, most, 4, 900.0, 600.0, warn=120.0)},
        SiteSettings(max_instances=9),
        wall_time=1800.0,
    )
    served = False
    ends: dict[str, float] = {}
    for _ in range(int(7000 / interval)):
        world.now += interval
        for job in world.alive():
            if job.state == "RUNNING" and job.ends is not None and job.ends <= world.now:
                assert not world.open.get(job.name.split(":", 1)[1]), "a stream was cut"
        world.end_overdue()
        for job in world.alive():
            world.progress(job.name, "start")
            if job.started is not None and world.now - job.started >= 60:
                world.progress(job.name, "ready")
        world.observe(world.visible())
        ready = takers(world)
        served = served or len(ready) == most
        assert not served or len(ready) >= 1
        stream(world, ready, ends, asked)
        before, world.open_before = dict(world.instances), dict(world.open)
        decision = world.decide()
        for action in decision.actions:
            if isinstance(action, Cancel):
                check_cancelled(world, before[action.instance])
        world.act(decision)
    assert world.submitted >= 3 * most


def takers(world: World) -> list[Instance]:
    """Return the instances that take new requests."""
    return [
        one
        for one in world.instances.values()
        if phase(one) is Phase.READY and one.draining_since is None and not one.leaving
    ]


def stream(world: World, ready: list[Instance], ends: dict[str, float], asked: list[int]) -> None:
    """Keep requests of two minutes on every instance that takes some."""
    for key, end in list(ends.items()):
        if end <= world.now:
            world.open.pop(key, None)
            del ends[key]
    for place, one in enumerate(ready):
        if one.id not in ends:
            world.open[one.id] = asked[place % len(asked)]
            ends[one.id] = world.now + 120.0
