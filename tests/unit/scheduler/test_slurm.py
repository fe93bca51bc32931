"""The adapter: what Slurm prints is read to the letter, and whatever is not understood is Unknown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from sluice.scheduler.instance import QueueJob
from sluice.scheduler.slurm import (
    Known,
    Slurm,
    Unknown,
    command_environment,
    parse_job,
    parse_queue,
    parse_time,
    submit_command,
)
from sluice.scheduler.submission import Submission
from tests.fakes.slurm.slurm import Cluster

DIGEST = "ab" * 32
NAME = "sluice:m-00000001"
COMMENT = f"sluice model=m digest={DIGEST}"
SCRIPT = "#!/bin/bash\n#SBATCH --time=30\ntrue\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Give a fake Slurm whose jobs run no processes."""
    made = Cluster(tmp_path / "slurm").install()
    yield made
    made.stop()


@pytest.fixture
def slurm(cluster: Cluster) -> Slurm:
    """Give the adapter on the fake Slurm; commands get three seconds."""
    return Slurm(str(cluster.bin), "", 3.0)


def submission(directory: Path, name: str = NAME) -> Submission:
    """Return a job that asks for one variable."""
    return Submission(name, SCRIPT, COMMENT, str(directory), {"SLUICE_MODEL": "m"})


def test_a_job_goes_from_submitted_to_cancelled(slurm: Slurm, tmp_path: Path) -> None:
    submitted = slurm.submit(submission(tmp_path))
    assert submitted == Known("1")
    queue = slurm.queue()
    assert isinstance(queue, Known)
    (job,) = queue.value
    assert (job.job_id, job.name, job.state, job.digest) == ("1", NAME, "RUNNING", DIGEST)
    assert job.nodes == ("localhost",)
    assert job.started is not None and job.ends == job.started + 1800
    shown = slurm.show("1")
    assert isinstance(shown, Known) and shown.value is not None
    assert (shown.value.name, shown.value.state, shown.value.started) == (NAME, "RUNNING", job.started)
    assert slurm.cancel("1", NAME) == Known(None)
    after = slurm.queue()
    assert isinstance(after, Known) and after.value[0].state == "CANCELLED"


def test_the_script_and_only_the_named_variables_reach_the_job(
    slurm: Slurm, cluster: Cluster, tmp_path: Path
) -> None:
    slurm.submit(submission(tmp_path))
    (job,) = cluster.jobs()
    assert job["environment"] == {"SLUICE_MODEL": "m"}
    assert (cluster.state / "script.1").read_text() == SCRIPT
    assert job["output"] == f"{tmp_path}/output"


def test_a_cancellation_never_hits_a_job_of_another_name(
    slurm: Slurm, cluster: Cluster, tmp_path: Path
) -> None:
    slurm.submit(submission(tmp_path, "sluice:other-00000002"))
    assert slurm.cancel("1", NAME) == Known(None)
    assert cluster.jobs()[0]["state"] == "RUNNING"


def test_cancelling_a_job_that_is_no_more_is_no_failure(slurm: Slurm) -> None:
    assert slurm.cancel("99", NAME) == Known(None)


def test_an_invalid_job_id_is_an_answer(slurm: Slurm) -> None:
    assert slurm.show("99") == Known(None)


@pytest.mark.parametrize("kind", ["fail", "garbage", "hang"])
def test_whatever_goes_wrong_is_unknown(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    slurm = Slurm(str(cluster.bin), "", 0.5 if kind == "hang" else 5.0)
    for program in ("squeue", "sbatch", "scontrol"):
        cluster.fault(program, kind)
    assert isinstance(slurm.queue(), Unknown)
    assert isinstance(slurm.show("1"), Unknown)
    assert isinstance(slurm.submit(submission(tmp_path)), Unknown)
    if kind != "garbage":
        cluster.fault("scancel", kind)
        assert isinstance(slurm.cancel("1", NAME), Unknown)


def test_an_empty_answer_of_sbatch_or_scontrol_is_unknown(
    slurm: Slurm, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.fault("sbatch", "empty")
    cluster.fault("scontrol", "empty")
    assert isinstance(slurm.submit(submission(tmp_path)), Unknown)
    assert isinstance(slurm.show("1"), Unknown)


def test_a_lost_answer_of_sbatch_is_unknown_though_the_job_exists(
    slurm: Slurm, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.fault("sbatch", "accept-fail")
    answer = slurm.submit(submission(tmp_path))
    assert isinstance(answer, Unknown)
    assert "timed out" in answer.reason
    assert [job["name"] for job in cluster.jobs()] == [NAME]


def test_a_missing_program_is_unknown_and_says_which_setting() -> None:
    answer = Slurm("/nowhere", "", 1.0).queue()
    assert isinstance(answer, Unknown)
    assert "slurm_bin" in answer.reason


def test_a_command_that_hangs_leaves_no_process(cluster: Cluster) -> None:
    cluster.fault("squeue", "hang")
    Slurm(str(cluster.bin), "", 0.5).queue()
    needle = str(cluster.bin / "squeue").encode()
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if needle in _bytes(path)]
    assert left == []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_environment_is_made_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CONF", "SQUEUE_FORMAT", "SBATCH_ACCOUNT", "SLURM_TIME_FORMAT", "LD_PRELOAD"):
        monkeypatch.setenv(name, "evil")
    environment = command_environment("/opt/slurm/bin", "")
    assert set(environment) == {"PATH", "HOME", "LC_ALL", "TZ"}
    assert environment["LC_ALL"] == "C" and environment["TZ"] == "UTC"
    assert command_environment("/usr/bin", "/etc/s.conf")["SLURM_CONF"] == "/etc/s.conf"
    assert os.environ["SLURM_CONF"] == "evil"


def test_the_command_line_of_sbatch() -> None:
    environment = {"SLUICE_PORTS": "20000-20999", "SLUICE_JOB_DIR": "/jobs/m-00000001"}
    argv = submit_command(
        Submission(NAME, SCRIPT, COMMENT, "/jobs/m-00000001", environment, ("--nice=5", "--requeue"))
    )
    assert argv == [
        "sbatch",
        "--parsable",
        "--job-name=sluice:m-00000001",
        f"--comment={COMMENT}",
        "--chdir=/jobs/m-00000001",
        "--output=/jobs/m-00000001/output",
        "--open-mode=append",
        "--export=SLUICE_JOB_DIR=/jobs/m-00000001,SLUICE_PORTS=20000-20999",
        "--nice=5",
        "--requeue",
    ]


def test_a_value_with_a_comma_would_become_two_variables_and_is_refused() -> None:
    with pytest.raises(ValueError, match="comma"):
        submit_command(Submission(NAME, SCRIPT, COMMENT, "/jobs", {"SLUICE_JOB_DIR": "/a,LD_PRELOAD=/x"}))


def line(**changes: str) -> str:
    """Return one line of squeue as Slurm prints it."""
    fields = {
        "job_id": "17",
        "state": "RUNNING",
        "submitted": "2026-11-22T07:00:00",
        "started": "2026-11-22T07:00:01",
        "ends": "2026-11-22T08:00:01",
        "nodes": "c[1-2]",
        "reason": "None",
        "comment": DIGEST,
        "name": NAME,
        **changes,
    }
    return "|".join(fields.values()) + "\n"


def test_a_line_is_read_whole() -> None:
    assert parse_queue(line()) == (
        QueueJob(
            job_id="17",
            name=NAME,
            state="RUNNING",
            reason="None",
            digest=DIGEST,
            submitted=1795330800.0,
            started=1795330801.0,
            ends=1795334401.0,
            nodes=("c1", "c2"),
        ),
    )


def test_a_pending_job_has_no_times_and_no_nodes() -> None:
    (job,) = parse_queue(line(state="PENDING", started="N/A", ends="N/A", nodes="", reason="Resources"))
    assert (job.started, job.ends, job.nodes, job.reason) == (None, None, (), "Resources")


def test_bars_in_reason_or_comment_do_not_hide_a_job() -> None:
    (job,) = parse_queue(line(reason="a|b", comment="c|sluice:x-00000000|d"))
    assert (job.job_id, job.name, job.digest) == ("17", NAME, "")


def test_jobs_of_other_names_are_passed_over() -> None:
    assert parse_queue(line(name="train|it") + line(name="xsluice:m-00000001")) == ()


@pytest.mark.parametrize(
    "text",
    [
        "slurm_load_jobs: something\n",
        line() + "half a line|RUNNING",
        line(job_id="17_3"),
        line(state="running?"),
        line(started="yesterday"),
        line(started="2026-11-22T07:00:01+00:00"),
        "17|RUNNING|\n",
    ],
)
def test_one_line_that_is_not_understood_makes_the_whole_answer_unusable(text: str) -> None:
    with pytest.raises(ValueError, match=r"understood|match|unconverted"):
        parse_queue(text)


def test_no_jobs_is_an_answer() -> None:
    assert parse_queue("") == ()
    assert parse_queue("\n") == ()


def test_nodes_that_cannot_be_read_leave_the_job_known() -> None:
    assert parse_queue(line(nodes="c[1-2]x[3-4]"))[0].nodes == ()


def test_scontrol_for_another_job_is_not_believed() -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse_job("JobId=18 JobName=x JobState=RUNNING", "17")


def test_free_text_of_scontrol_cannot_overwrite_what_came_before() -> None:
    text = f"JobId=17 JobName={NAME} JobState=RUNNING Comment=JobState=FAILED Command=JobState=FAILED"
    assert parse_job(text, "17").state == "RUNNING"


@pytest.mark.parametrize("text", ["N/A", "Unknown", "NONE", ""])
def test_a_time_that_slurm_does_not_have_is_none(text: str) -> None:
    assert parse_time(text) is None


RECORDED = Path(__file__).parents[2] / "golden" / "slurm"


def test_what_a_real_slurm_printed_is_read_line_by_line() -> None:
    jobs = parse_queue((RECORDED / "squeue-22.05.txt").read_text())
    summary = [(job.job_id, job.state, job.reason, job.nodes) for job in jobs]
    assert summary == [
        ("9", "CANCELLED", "None", ("c2",)),
        ("18", "PENDING", "BeginTime", ()),
        ("19", "PENDING", "Priority", ()),
        ("16", "RUNNING", "None", ("c1", "c2")),
        ("17", "RUNNING", "None", ("c1",)),
        ("16", "CANCELLED", "None", ("c1", "c2")),
        ("17", "FAILED", "NonZeroExitCode", ("c1",)),
        ("18", "PENDING", "BeginTime", ()),
        ("19", "PENDING", "Resources", ()),
    ]
    assert all(job.digest and job.submitted and job.started and job.ends for job in jobs)
    assert jobs[3].ends == (jobs[3].started or 0) + 300


@pytest.mark.parametrize(
    ("name", "job_id", "state", "nodes"),
    [("ended", "16", "CANCELLED", ("c1", "c2")), ("pending", "18", "PENDING", ())],
)
def test_what_a_real_scontrol_printed_is_read(
    name: str, job_id: str, state: str, nodes: tuple[str, ...]
) -> None:
    job = parse_job((RECORDED / f"scontrol-{name}-22.05.txt").read_text(), job_id)
    assert (job.name[:11], job.state, job.nodes) == ("sluice:rec-", state, nodes)
    assert job.started is not None and job.ends is not None


@pytest.mark.parametrize(
    ("version", "still", "held", "waits"),
    [
        ("20.11", "SUSPENDED", "launch failed requeued held", "Priority"),
        ("23.11", "SUSPENDED", "JobHeldAdmin", "ReqNodeNotAvail, Reserved for maintenance"),
        ("25.05", "STOPPED", "user env retrieval failed requeued held", None),
    ],
)
def test_what_other_versions_print_by_their_documentation_is_read(
    version: str, still: str, held: str, waits: Optional[str]
) -> None:
    jobs = parse_queue((RECORDED / f"squeue-{version}.documented.txt").read_text())
    assert [job.state for job in jobs] == ["RUNNING", "PENDING", "RUNNING", "PENDING", still]
    assert jobs[0].nodes == ("gpu01", "gpu02")
    assert jobs[0].ends == (jobs[0].started or 0.0) + 86_400
    assert jobs[1].started is None and jobs[1].reason == (
        waits or "ReqNodeNotAvail, UnavailableNodes:gpu[05-07]"
    )
    assert jobs[2].ends is None and jobs[2].kind == "burst"
    assert jobs[3].reason == held
    assert all(job.digest == DIGEST for job in jobs)
