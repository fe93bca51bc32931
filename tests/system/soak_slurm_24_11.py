"""The scheduler on Debian 13: Slurm 24.11, Python 3.13. A bed of its own, with a stub as its jobs' engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.bed.bed import Bed
from demo.bed.progress import Progress
from demo.bed.topology import CLUSTER_HOSTS
from tests.lanes import ROOT
from tests.system.small_cluster import CPUS, SmallCluster

NAME, SUBNET = "debian", "10.79.0"
# One place for all runs: what a killed one left is found and cleared.
STATE = ROOT / "build" / "debian-bed"
MODEL = "tiny"
SETTINGS = {"slurm": {"requeue": True}, "burst": {"max": 1, "partition": "spare"}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    """The cluster, installed once for the module."""
    bed = Bed(NAME, SUBNET, STATE, layers="fast", hosts=CLUSTER_HOSTS, suite="trixie", report=Progress())
    bed.down()
    try:
        made = SmallCluster(bed)
        made.install()
        yield made
    finally:
        bed.clean()


@pytest.fixture
def tiny(cluster: SmallCluster) -> SmallCluster:
    """The cluster with one model that is served by one instance."""
    cluster.end_other_users()
    cluster.apply(MODEL, **SETTINGS)
    cluster.wait(MODEL)
    return cluster


def test_the_cluster_is_a_newer_one(cluster: SmallCluster) -> None:
    told = cluster.shell("scontrol --version; /usr/bin/python3 --version").split()

    assert (told[1][:5], told[3][:4]) == ("24.11", "3.13")


def test_an_instance_comes_up_and_answers(tiny: SmallCluster) -> None:
    (job,) = tiny.live()

    assert (job.state, job.nodes in (("c1",), ("c2",)), len(job.digest)) == ("RUNNING", True, 64)
    assert tiny.routed(MODEL) == {job.job_id: "ready"}
    asked = tiny.sluice("models", "ask", MODEL)
    assert asked.returncode == 0, asked.stderr


def test_doctor_finds_nothing_wrong(tiny: SmallCluster) -> None:
    done = tiny.sluice("doctor", "--with-job", "--json")

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_drained_model_ends_its_job_and_resumes(tiny: SmallCluster) -> None:
    (job,) = tiny.live()
    assert tiny.sluice("models", "drain", MODEL).returncode == 0
    tiny.until(lambda: not tiny.live(), 30, "the job of a drained model ends")
    assert tiny.job(job.job_id).state == "CANCELLED"
    assert tiny.sluice("models", "resume", MODEL).returncode == 0
    tiny.wait(MODEL)


def test_a_job_that_somebody_cancels_is_replaced(tiny: SmallCluster) -> None:
    (job,) = tiny.live()
    tiny.shell(f"scancel {job.job_id}")
    tiny.until(lambda: set(tiny.routed(MODEL)) - {job.job_id}, 60, "another one serves")
    assert len(tiny.live()) == 1


def test_a_job_that_is_put_back_into_the_queue_is_replaced_at_once(tiny: SmallCluster) -> None:
    (job,) = tiny.live()
    tiny.shell(f"scontrol requeue {job.job_id}")
    tiny.until(lambda: job.job_id not in tiny.routed(MODEL), 15, "no request goes there any more")
    # Slurm itself would have it wait two minutes.
    tiny.until(lambda: job.job_id not in [one.job_id for one in tiny.live()], 30, "it is given up")
    tiny.until(lambda: len(tiny.routed(MODEL)) == 1, 60, "another one serves in its place")
    (left,) = tiny.live()
    assert tiny.routed(MODEL) == {left.job_id: "ready"}


def test_a_job_that_an_admin_holds_is_left_alone(tiny: SmallCluster) -> None:
    (job,) = tiny.live()
    tiny.shell("scontrol update NodeName=c1,c2 State=DRAIN Reason=test")
    try:
        tiny.shell(f"scancel {job.job_id}")
        tiny.until(lambda: [one.state for one in tiny.live()] == ["PENDING"], 30, "another one waits")
        (held,) = tiny.live()
        tiny.shell(f"scontrol hold {held.job_id}")
        tiny.until(lambda: "JobHeldAdmin" in str(tiny.shown(MODEL)), 15, "the reason is shown")
        (left,) = tiny.live()
        assert (left.job_id, left.reason) == (held.job_id, "JobHeldAdmin")
    finally:
        tiny.shell("scontrol update NodeName=c1,c2 State=RESUME")
    tiny.shell(f"scontrol release {held.job_id}")
    tiny.until(lambda: tiny.routed(MODEL) == {held.job_id: "ready"}, 60, "it serves once it is released")


def test_a_burst_instance_leaves_when_slurm_takes_its_place_back(tiny: SmallCluster) -> None:
    (base,) = tiny.live()
    with tiny.asking(MODEL, 4):
        tiny.until(lambda: len(tiny.routed(MODEL)) == 2, 60, "a burst instance helps")
        (burst,) = (job for job in tiny.live() if job.job_id != base.job_id)
        assert (burst.kind, tiny.state_of(burst.job_id, "%P")) == ("burst", "spare")
        room = CPUS - (base.nodes == burst.nodes)
        regular = tiny.other_user("--nodelist", burst.nodes[0], f"--cpus-per-task={room}")
        tiny.until(lambda: tiny.routed(MODEL).get(burst.job_id) != "ready", 15, "no request goes there")
        assert tiny.routed(MODEL)[base.job_id] == "ready"
        tiny.until(lambda: tiny.state_of(regular) == "RUNNING", 60, "regular work has its place")
        assert tiny.job(burst.job_id).state in ("PREEMPTED", "CANCELLED")
        tiny.end_other_users()
        tiny.until(lambda: list(tiny.routed(MODEL).values()) == ["ready"] * 2, 60, "another one helps")


def test_an_instance_with_a_least_time_fills_a_hole_that_is_too_short_for_another(
    cluster: SmallCluster,
) -> None:
    cluster.clear()
    # c1 is taken for three minutes, after which a job of both nodes has its turn: until then, c2 is a hole.
    now = cluster.other_user("--nodelist=c1", "--exclusive", "--time=3")
    cluster.until(lambda: cluster.state_of(now) == "RUNNING", 30, "the first job runs")
    then = cluster.other_user("--nodes=2", "--exclusive", "--time=10")
    cluster.until(lambda: cluster.state_of(then, "%S") != "N/A", 30, "the second job's start is planned")
    try:
        cluster.apply("whole", slurm={"time": 60})
        cluster.until(lambda: cluster.live("whole"), 30, "the one that needs an hour is submitted")
        cluster.apply("filling", slurm={"time": 60, "time_min": 1, "warn": 30})
        cluster.wait("filling")
        (filling,), (whole,) = cluster.live("filling"), cluster.live("whole")
        assert (filling.state, filling.nodes, whole.state) == ("RUNNING", ("c2",), "PENDING")
        # The job that has its turn is not held up by a second.
        assert cluster.state_of(then) == "PENDING"
        first = cluster.state_of(now, "%e")
        assert cluster.state_of(filling.job_id, "%e") <= cluster.state_of(then, "%S") == first
        cluster.end_other_users()
        cluster.wait("whole")
    finally:
        cluster.end_other_users()
        cluster.clear()
