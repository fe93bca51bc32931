"""What real Slurms of several versions printed for the same jobs is read alike, and means the same.

Recorded on two nodes, c1 and c2: squeue with our format for jobs in every state that could be brought
about, and scontrol for some of them.
"""

from __future__ import annotations

import pytest

from sluice.scheduler.instances.instance import Instance, Phase, QueueJob, held_by_slurm, phase, seen
from sluice.scheduler.slurm.client import INVALID_ID
from sluice.scheduler.slurm.squeue import parse_job
from tests.unit.scheduler import recorded
from tests.unit.scheduler.recorded import RECORDED

VERSIONS = ("22.05", "24.11")
DIGEST = "ab" * 32
BOTH = ("c1", "c2")
HELD = "job requeued in held state"

# Our names for the jobs: what was done with each, then state, reason, nodes as every version tells them.
JOBS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "00000001": ("RUNNING", "None", BOTH),
    "00000002": ("COMPLETED", "None", ("c1",)),
    "00000003": ("FAILED", "NonZeroExitCode", ("c1",)),
    "00000004": ("SUSPENDED", "None", ("c1",)),
    "00000005": ("CANCELLED", "None", ("c1",)),
    "00000006": ("PENDING", HELD, ()),  # scontrol requeuehold while it ran
    "00000007": ("PENDING", "BeginTime", ()),
    "00000008": ("PENDING", "JobHeldUser", ()),
    "00000009": ("PENDING", "Resources", ()),
    "0000000b": ("PENDING", "BeginTime", ()),  # preempted and put back into the queue
    "0000000c": ("PENDING", "Priority", ()),
    "0000000d": ("PENDING", "Priority", ()),
    "0000000e": ("PENDING", "JobHeldAdmin", ()),
    "0000000f": ("PENDING", "launch failed requeued held", ()),  # its node's prolog failed
}
# Ended for good by a preemption whose warning its script did not trap.
WARNED = {"22.05": ("FAILED", "JobLaunchFailure", ("c2",)), "24.11": ("PREEMPTED", "None", ("c2",))}

PHASES = {"RUNNING": Phase.STARTING, "SUSPENDED": Phase.SICK, "PENDING": Phase.PENDING}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Give each version of which there is a recording."""
    return str(request.param)


@pytest.fixture
def queue(version: str) -> dict[str, QueueJob]:
    """Give the recorded queue by the last part of each job's name."""
    jobs = recorded.queue(f"squeue-states-{version}.txt")
    assert len({job.job_id for job in jobs}) == len(jobs)
    return {job.name.removeprefix("sluice:rec-"): job for job in jobs}


def scontrol(name: str, version: str) -> str:
    """Return what scontrol printed."""
    return (RECORDED / f"scontrol-{name}-{version}.txt").read_text()


def instance(job: QueueJob) -> Instance:
    """Return the instance of a job that was submitted and is seen for the first time."""
    made = Instance(job.name.removeprefix("sluice:"), "rec", "0" * 8, DIGEST, created=0.0, job_id=job.job_id)
    return seen(made, job)


def test_every_line_of_the_queue_is_read(queue: dict[str, QueueJob], version: str) -> None:
    assert {name: (job.state, job.reason, job.nodes) for name, job in queue.items()} == {
        **JOBS,
        "0000000a": WARNED[version],
    }
    assert {job.digest for job in queue.values()} == {DIGEST}
    assert [name for name, job in queue.items() if job.kind == "burst"] == ["0000000f"]


def test_times_are_read_where_slurm_has_them(queue: dict[str, QueueJob]) -> None:
    running, held, waiting = queue["00000001"], queue["00000008"], queue["0000000d"]
    assert running.submitted and running.started and running.ends == running.started + 300
    assert (held.started, held.ends) == (None, None)
    assert waiting.started and waiting.ends == waiting.started + 24 * 3600
    assert all(job.submitted for job in queue.values())


def test_a_requeued_job_may_not_start_at_once(queue: dict[str, QueueJob]) -> None:
    for name in ("00000006", "0000000b"):
        job = queue[name]
        assert job.started and job.submitted and 120 <= job.started - job.submitted <= 122


def test_each_state_means_the_same_in_an_instances_life(queue: dict[str, QueueJob]) -> None:
    assert {name: phase(instance(job)) for name, job in queue.items()} == {
        name: PHASES.get(state, Phase.GONE)
        for name, (state, _, _) in {**JOBS, "0000000a": WARNED["24.11"]}.items()
    }


def test_only_what_slurm_itself_holds_is_stuck(queue: dict[str, QueueJob]) -> None:
    held = {name for name, job in queue.items() if held_by_slurm(instance(job))}
    assert held == {"00000006", "0000000f"}


@pytest.mark.parametrize(
    ("name", "job", "state", "nodes"),
    [("running", "00000001", "RUNNING", BOTH), ("held", "00000008", "PENDING", ())],
)
def test_scontrol_says_what_squeue_says(
    queue: dict[str, QueueJob], version: str, name: str, job: str, state: str, nodes: tuple[str, ...]
) -> None:
    listed = queue[job]
    shown = parse_job(scontrol(name, version), listed.job_id)
    assert (shown.name, shown.state, shown.reason, shown.nodes) == (listed.name, state, listed.reason, nodes)
    assert (shown.started, shown.ends) == (listed.started, listed.ends)


@pytest.mark.parametrize(("name", "job"), [("ended", "00000003"), ("pending", "00000007")])
def test_scontrol_of_24_11_says_what_squeue_says(name: str, job: str) -> None:
    queue = recorded.queue("squeue-states-24.11.txt")
    listed = next(one for one in queue if one.name.endswith(job))
    shown = parse_job(scontrol(name, "24.11"), listed.job_id)
    assert (shown.state, shown.nodes, shown.started) == (listed.state, listed.nodes, listed.started)


def test_an_id_that_is_no_more_is_called_invalid(version: str) -> None:
    assert INVALID_ID in scontrol("invalid", version)
