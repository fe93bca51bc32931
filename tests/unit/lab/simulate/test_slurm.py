"""The simulator's fake Slurm keeps what a cluster has: no GPU twice, none lost, none where there is none."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lab.simulate.load import Failure, RegularJob
from lab.simulate.parameters import Cluster
from lab.simulate.slurm import Job, Slurm
from tests.trials import examples

SMALL = replace(Cluster(), nodes=3, gpus_per_node=4, service_gpus=8, repair=500.0, reserve_after=100.0)


def conserved(slurm: Slurm) -> None:
    """Each node's GPUs are free or belong to exactly the jobs that run there; none belongs to nobody."""
    running = [job for job in slurm.jobs.values() if job.state == "RUNNING"]
    for node in range(slurm.cluster.nodes):
        here = [job for job in running if job.node == node]
        assert slurm.on_node[node] == {job.id for job in here}
        has = 0 if node in slurm.down else slurm.cluster.gpus_per_node
        assert slurm.free[node] + sum(job.gpus for job in here) == has
        assert slurm.free[node] >= 0
    assert slurm.service_gpus == sum(job.gpus for job in running if job.service)
    assert slurm.service_gpus <= slurm.cluster.service_gpus
    assert {job.id for job in slurm.pending} == set(slurm.jobs) - {job.id for job in running}


@examples(40)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 3000), st.sampled_from([1, 2, 4]), st.floats(1, 2000), st.booleans(), st.booleans()
        ),
        max_size=40,
    ),
    st.lists(st.tuples(st.floats(0, 3000), st.integers(0, 2)), max_size=4),
    st.integers(0, 5),
)
def test_gpus_are_conserved_whatever_happens(
    jobs: list[tuple[float, int, float, bool, bool]], failures: list[tuple[float, int]], cancelled: int
) -> None:
    regular = sorted(
        (RegularJob(at, gpus, lasts) for at, gpus, lasts, service, _ in jobs if not service),
        key=lambda job: job.submitted,
    )
    own = sorted((at, gpus, lasts, burst) for at, gpus, lasts, service, burst in jobs if service)
    slurm = Slurm(SMALL, regular, [Failure(at, node) for at, node in sorted(failures)])
    told: list[tuple[int, str]] = []
    submitted: list[Job] = []
    for now in range(0, 12_000, 75):
        while own and own[0][0] <= now:
            _, gpus, lasts, burst = own.pop(0)
            submitted.append(slurm.sbatch(gpus, lasts, float(now), preemptible=burst))
            if len(submitted) == cancelled:
                slurm.scancel(submitted[0], float(now))
        told += [(job.id, job.state) for job in slurm.advance(float(now))]
        conserved(slurm)
    assert not slurm.jobs, "everything ends once nothing comes any more"
    ended = [identity for identity, state in told if state != "RUNNING"]
    assert {job.id for job in submitted} <= set(ended)
    assert all(job.ended >= job.started >= 0 for job in submitted)


def test_a_job_runs_for_its_wall_time_and_no_longer() -> None:
    slurm = Slurm(SMALL, [], [])
    job = slurm.sbatch(2, 600.0, 0.0)
    assert [one.state for one in slurm.advance(10.0)] == ["RUNNING"]
    assert slurm.advance(600.0) == []
    assert [one.state for one in slurm.advance(610.0)] == ["TIMEOUT"]
    assert (job.started, job.ended) == (10.0, 610.0)


def test_preemptible_jobs_make_way_newest_first_and_never_push() -> None:
    slurm = Slurm(replace(SMALL, nodes=1), [RegularJob(100.0, 2, 50.0)], [])
    old, new = (slurm.sbatch(2, 9000.0, 0.0, preemptible=True) for _ in range(2))
    slurm.advance(0.0)
    slurm.advance(100.0)
    assert (old.state, new.state) == ("RUNNING", "PREEMPTED")
    waits = slurm.sbatch(2, 9000.0, 110.0, preemptible=True)
    slurm.advance(120.0)
    assert waits.state == "PENDING"
    slurm.advance(160.0)
    assert waits.state == "RUNNING"


def test_a_nodes_failure_ends_its_jobs_and_takes_its_gpus_until_it_is_repaired() -> None:
    slurm = Slurm(replace(SMALL, nodes=1), [], [Failure(50.0, 0)])
    job = slurm.sbatch(1, 9000.0, 0.0)
    slurm.advance(0.0)
    slurm.advance(60.0)
    assert job.state == "NODE_FAIL"
    again = slurm.sbatch(1, 9000.0, 60.0)
    slurm.advance(90.0)
    assert again.state == "PENDING"
    slurm.advance(600.0)
    assert again.state == "RUNNING"


def test_the_service_never_has_more_than_its_limit() -> None:
    slurm = Slurm(SMALL, [], [])
    jobs = [slurm.sbatch(4, 9000.0, 0.0) for _ in range(3)]
    slurm.advance(0.0)
    assert [job.state for job in jobs] == ["RUNNING", "RUNNING", "PENDING"]


def test_a_large_job_of_others_is_not_starved_by_small_ones() -> None:
    small = [RegularJob(float(at), 1, 150.0) for at in range(0, 3000, 10)]
    large = RegularJob(205.0, 4, 100.0)
    slurm = Slurm(replace(SMALL, nodes=1), sorted([*small, large], key=lambda job: job.submitted), [])
    seen: list[float] = []
    for now in range(0, 3000, 10):
        slurm.advance(float(now))
        conserved(slurm)
        seen += [job.started for job in slurm.jobs.values() if job.gpus == 4 and job.state == "RUNNING"]
    # 20 jobs were there before: 750 s on four GPUs; then the last of them have to end.
    assert 205 < seen[0] <= 750 + 150
