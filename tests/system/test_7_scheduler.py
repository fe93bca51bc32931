"""The scheduler on a real Slurm: wall times, preemption, a silent controller, a dark node, a cold start.

The models of this module run on the light engine, with short times. While the other tests go on, one model
lives through its wall times under constant streaming load.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.load import Load, beside_a_burst_instance, stream
from tests.system.models import registered
from tests.system.service import LIGHT, Service
from tests.system.ticks import Ticks, watched_ticks
from tests.trials import SOAK

Wait = Callable[[Callable[[], object], float, str], None]

# One after the other.
HANDOVERS = 6 if SOAK else 2
# Minutes; Slurm gives no second more (OverTimeLimit=0).
WALL_TIME = 2
# From the request to its first token, beside Slurm's part and the engine's own: seconds, on a quiet machine.
COLD_START_OVERHEAD = 5.0
# A tick that has asked squeue a moment too early may end first.
TICK_BEFORE = 1
# Ticks at rest, from the instance's readiness to the first token: the table reaches the gateway by itself.
TICKS_TO_ANSWER = 3
CONTROLLER_AWAY = 20.0


@pytest.fixture(scope="module")
def handed_over(service: Service) -> Iterator[Load]:
    """Streams on a model whose jobs last WALL_TIME minutes, running through this module."""
    with registered(
        service, "handover", LIGHT, min=1, slurm={"partition": "normal", "time": WALL_TIME, "warn": 20}
    ) as name:
        assert not stream(service, name, 8).problem
        load = Load(service, name, streams=2)
        load.start()
        try:
            yield load
        finally:
            load.stop()


@pytest.fixture
def sleeper(service: Service) -> Iterator[str]:
    """A model that nobody has asked yet."""
    with registered(
        service, "sleeper", LIGHT, min=0, idle_stop=300, slurm={"partition": "normal", "time": 60}
    ) as name:
        yield name


def test_a_sleeping_model_answers_as_soon_as_its_engine_has_loaded(
    service: Service, handed_over: Load, sleeper: str
) -> None:
    time.sleep(5)
    assert not service.live_jobs(sleeper)
    with watched_ticks(service) as ticks:
        asked = time.time()
        answer = stream(service, sleeper, 8)
        answered = time.time()
    assert not answer.problem
    (job,) = service.live_jobs(sleeper)
    # Of the wait, from the submission to the engine's ready line (the last that the job's script lets
    # through) is Slurm's and the engine's part.
    (instance,) = service.status(sleeper)["instances"]
    loaded = float(service.shell("login", f"stat -c %.Y {service.job(job)['StdOut']}"))
    submitted = float(instance["submitted"])
    slurm_and_engine = loaded - submitted
    overhead = answer.wait - slurm_and_engine
    print(
        f"cold start: first token after {answer.wait:.1f} s; from submission to the engine's readiness "
        f"{slurm_and_engine:.1f} s, submitted {submitted - asked:.1f} s after the request; "
        f"overhead {overhead:.1f} s; ticks ended at {ticks.ends}"
    )
    assert ticks.between(asked, submitted) <= TICK_BEFORE
    assert_used_at_once(ticks, loaded, instance["ready"], answered)
    if SOAK:
        assert overhead <= COLD_START_OVERHEAD


def assert_used_at_once(ticks: Ticks, loaded: float, ready: float, answered: float) -> None:
    """Assert that few ticks ended from the engine's readiness to the answer."""
    # A file's time and a tick's are not of one clock's read.
    assert ticks.between(loaded + 0.1, ready) <= TICK_BEFORE
    assert ticks.between(ready, answered) <= TICKS_TO_ANSWER


def test_a_preempted_burst_instance_costs_no_request(
    service: Service, handed_over: Load, eventually: Wait
) -> None:
    with beside_a_burst_instance(service, "spare", eventually) as (load, victim):
        began = time.monotonic()
        blocker = service.claim(service.node_of_job(victim), victim)
        try:
            # Warned, it gives the node back as soon as nothing runs on it, or Slurm takes it.
            eventually(lambda: service.job(blocker)["JobState"] == "RUNNING", 60, "the node is given up")
            taken = time.monotonic() - began
            state = service.job(victim)["JobState"]
            time.sleep(5)
        finally:
            service.shell("login", f"scancel {blocker}")
    print(f"given up as {state} {taken:.1f} s after the claim; {load.figures(began)}")
    assert state in ("CANCELLED", "PREEMPTED")
    assert not load.problems(), load.problems()
    assert sum(one.began >= began for one in load.outcomes) >= 5


def test_a_silent_controller_costs_no_request(service: Service, handed_over: Load) -> None:
    before = service.live_jobs()
    began = time.monotonic()
    service.shell("login", "systemctl stop slurmctld")
    try:
        time.sleep(CONTROLLER_AWAY)
        assert service.chat("hi").status == 200
    finally:
        service.shell("login", "systemctl start slurmctld")
    print(f"slurmctld away for {CONTROLLER_AWAY:.0f} s; {handed_over.figures(began)}")
    assert not handed_over.problems(began), handed_over.problems(began)
    assert sum(one.began >= began for one in handed_over.outcomes) >= 3
    assert service.live_jobs() == before


def test_what_a_job_waits_for_is_told_with_slurms_words(
    service: Service, handed_over: Load, eventually: Wait
) -> None:
    reservation = f"chat{secrets.token_hex(3)}"
    when = "starttime=now+2hours duration=60 nodecnt=1 partition=normal users=sluice flags=ignore_jobs"
    # A controller that was away does not take its nodes for usable at once.
    made = f"scontrol create reservationname={reservation} {when}"
    service.shell("login", f"for _ in $(seq 60); do {made} && exit 0; sleep 1; done; exit 1", timeout=90)
    try:
        asked = {"partition": "normal", "time": 5, "reservation": reservation}
        with registered(service, "reserved", LIGHT, min=1, max=1, slurm=asked) as name:
            eventually(lambda: "Reservation" in service.status(name)["obstacle"], 90, "the obstacle is told")
    finally:
        gone = f"scontrol delete reservationname={reservation}"
        service.shell("login", f"for _ in $(seq 60); do {gone} && exit 0; sleep 1; done; exit 1", timeout=90)


def test_wall_times_in_a_row_cut_no_stream(service: Service, handed_over: Load, eventually: Wait) -> None:
    eventually(
        lambda: len(service.ended_jobs(handed_over.model)) >= HANDOVERS,
        60 * WALL_TIME * HANDOVERS,
        f"{HANDOVERS} handovers",
    )
    handed_over.stop()
    ended = service.ended_jobs(handed_over.model)
    print(f"{len(ended)} handovers ({sorted(ended.values())}); {handed_over.figures()}")
    assert not handed_over.problems(), handed_over.problems()
    # Each was drained and cancelled before Slurm would have ended it.
    assert set(ended.values()) <= {"CANCELLED", "COMPLETED"}, ended


def test_a_node_that_goes_dark_is_replaced_within_slurms_detection_and_a_load(
    service: Service, sleeper: str, eventually: Wait
) -> None:
    # On the other node than the model that is always up, which takes minutes to load again.
    (always_up,) = service.live_jobs()
    claim = service.claim(service.node_of_job(always_up))
    assert not stream(service, sleeper, 8).problem
    service.shell("login", f"scancel {claim}")
    (job,) = service.live_jobs(sleeper)
    node = service.node_of_job(job)
    assert node != service.node_of_job(always_up)
    began = time.monotonic()
    service.bed.power_cut(node)
    try:
        with watched_ticks(service) as ticks:
            eventually(lambda: service.job(job)["JobState"] != "RUNNING", 90, "Slurm notices")
            detected = time.monotonic() - began
            answer = stream(service, sleeper, 8)
            recovered, answered = time.monotonic() - began, time.time()
        assert not answer.problem
        # The lost one's job may still be ending: nobody on its node says that it has.
        (successor,) = [
            one for one in service.status(sleeper)["instances"] if one["job_id"] in service.ready(sleeper)
        ]
        noticed = epoch(service, service.job(job)["EndTime"])
        loaded = float(service.shell("login", f"stat -c %.Y {service.job(successor['job_id'])['StdOut']}"))
    finally:
        service.bed.power_on(node)
    loading = successor["ready"] - successor["started"]
    print(
        f"node dark: Slurm noticed after {detected:.1f} s, answered again after {recovered:.1f} s "
        f"(of that the successor's load: {loading:.1f} s); Slurm ended the job at {noticed:.0f}, the next "
        f"was submitted at {successor['submitted']:.1f}; ticks ended at {ticks.ends}"
    )
    # Slurm tells whole seconds.
    assert ticks.between(noticed + 1, successor["submitted"]) <= TICK_BEFORE
    assert_used_at_once(ticks, loaded, successor["ready"], answered)
    if SOAK:
        assert recovered <= detected + loading + COLD_START_OVERHEAD
    assert service.chat("hi").status == 200


def epoch(service: Service, written: str) -> float:
    """Return the seconds since the epoch of a time as Slurm writes it."""
    return float(service.shell("login", f"date -d {written} +%s"))
