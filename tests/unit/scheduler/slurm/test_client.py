"""The adapter: what Slurm prints is read to the letter, and whatever is not understood is Unknown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.models import ModelEntry
from sluice.scheduler.doctor.facts import SchedulerAccount
from sluice.scheduler.slurm import programs
from sluice.scheduler.slurm.client import Astray, Slurm, cancel_command, queue_command, submit_command
from sluice.scheduler.slurm.programs import Known, Unknown
from sluice.scheduler.slurm.submission import Submission
from tests.fakes.slurm.slurm import Cluster
from tests.unit.scheduler.site import GOLDEN, configuration

DIGEST = "ab" * 32
NAME = "sluice:m-00000001"
COMMENT = f"sluice model=m digest={DIGEST}"
ENTRY = ModelEntry.parse(json.loads((GOLDEN / "model-entry.json").read_text()))
SCRIPT = "#!/bin/bash\n#SBATCH --time=30\ntrue\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Give a fake Slurm whose jobs run no processes."""
    made = Cluster(tmp_path / "slurm").install()
    yield made
    made.stop()


@pytest.fixture
def slurm(cluster: Cluster) -> Slurm:
    """Give the adapter on the fake Slurm; commands get what a busy machine needs."""
    return Slurm(str(cluster.bin), "", 60.0)


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
    # PWD is the fake's own shell's.
    assert set(job["environment"]) - {"PWD"} == {"SLUICE_MODEL", "HOME", "LC_ALL", "PATH", "TZ"}
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
    slurm = Slurm(str(cluster.bin), "", 0.5 if kind == "hang" else 60.0)
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


@pytest.mark.parametrize("named", ["other", "Other"])
def test_a_job_on_another_cluster_is_told_by_its_cluster_and_cancelled_there(
    slurm: Slurm, cluster: Cluster, tmp_path: Path, named: str
) -> None:
    cluster.configure(lands_on=named)
    submitted = slurm.submit(submission(tmp_path))
    assert submitted == Astray("1", named)
    assert cluster.elsewhere() == [f"1;{named}"]
    assert slurm.cancel("1", NAME, named) == Known(None)
    assert cluster.elsewhere() == []


@pytest.mark.parametrize("named", ["fake", "FAKE"])
def test_an_answer_that_names_our_own_cluster_is_a_job_of_ours(
    slurm: Slurm, cluster: Cluster, tmp_path: Path, named: str
) -> None:
    cluster.configure(lands_on=named, cluster=named)
    assert slurm.submit(submission(tmp_path)) == Known("1")
    assert slurm.submit(submission(tmp_path)) == Known("2")
    assert cluster.calls("scontrol") == 1


def test_where_our_clusters_name_cannot_be_told_a_job_on_a_named_one_is_given_up(
    slurm: Slurm, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.configure(lands_on="fake")
    cluster.fault("scontrol", "fail", 1)
    assert slurm.submit(submission(tmp_path)) == Astray("1", "fake")
    assert slurm.submit(submission(tmp_path)) == Known("2")


@pytest.mark.parametrize(
    "answer", ["17;", ";other", "17;a b", "17;other;x", "17 18", "17;../x", "12345678901", ""]
)
def test_an_answer_that_is_no_job_is_unknown(cluster: Cluster, tmp_path: Path, answer: str) -> None:
    (cluster.bin / "sbatch").write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
    assert isinstance(Slurm(str(cluster.bin), "", 10.0).submit(submission(tmp_path)), Unknown)


def test_the_environment_is_made_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CONF", "SQUEUE_FORMAT", "SBATCH_ACCOUNT", "SLURM_TIME_FORMAT", "LD_PRELOAD"):
        monkeypatch.setenv(name, "evil")
    environment = programs.environment("/opt/slurm/bin", "")
    assert set(environment) == {"PATH", "HOME", "LC_ALL", "TZ"}
    assert environment["LC_ALL"] == "C" and environment["TZ"] == "UTC"
    assert programs.environment("/usr/bin", "/etc/s.conf")["SLURM_CONF"] == "/etc/s.conf"
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
        "--export=ALL",
        "--nice=5",
        "--requeue",
    ]


def test_the_command_line_of_squeue_and_of_scancel() -> None:
    account = os.getuid()
    texts = "|0123456789abcdef|".join(("", "%200r", "%200k", "%Z", "%100j"))
    assert queue_command("0123456789abcdef") == [
        "squeue",
        "--noheader",
        "--local",
        "--all",
        "--states=all",
        f"--user={account}",
        f"--format=%A|%T|%V|%S|%e|%N{texts}|0123456789abcdef.",
    ]
    assert cancel_command("17", NAME) == ["scancel", f"--user={account}", f"--name={NAME}", "17"]
    assert cancel_command("17", "") == ["scancel", f"--user={account}", "17"]
    assert cancel_command("700", NAME, "other") == [
        "scancel",
        "--clusters=other",
        f"--user={account}",
        f"--name={NAME}",
        "700",
    ]


def test_each_question_has_a_mark_of_its_own(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run = programs.run

    def watched(argv: Any, *rest: Any, **more: Any) -> Any:
        asked.append(argv[-1])
        return run(argv, *rest, **more)

    monkeypatch.setattr(programs, "run", watched)
    for _ in range(3):
        slurm.queue()
    assert len(set(asked)) == 3


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError(5, "Input/output error")])
def test_an_account_that_cannot_be_looked_up_makes_every_answer_unknown(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(_: int) -> Any:
        raise error

    monkeypatch.setattr("pwd.getpwuid", away)
    programs._home.cache_clear()
    answers = (slurm.queue(), slurm.show("1"), slurm.submit(submission(tmp_path)), slurm.cancel("1", NAME))
    monkeypatch.undo()
    for answer in answers:
        assert isinstance(answer, Unknown) and "cannot be looked up" in answer.reason
    assert isinstance(slurm.queue(), Known)


def test_an_account_that_was_looked_up_once_need_not_be_again(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(slurm.queue(), Known)
    monkeypatch.setattr("pwd.getpwuid", lambda _: 1 / 0)
    assert isinstance(slurm.queue(), Known)


def test_an_answer_without_end_costs_bounded_memory_and_is_unknown(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MAX_OUTPUT", 1_000_000)
    (cluster.bin / "squeue").write_text("#!/bin/sh\nexec yes\n")
    answer = Slurm(str(cluster.bin), "", 60.0).queue()
    assert isinstance(answer, Unknown) and "larger than" in answer.reason


def test_a_program_that_hears_nothing_of_a_long_script_is_heard_itself(
    cluster: Cluster, tmp_path: Path
) -> None:
    (cluster.bin / "sbatch").write_text("#!/bin/sh\nexec 0<&-\necho 17\n")
    long = Submission(NAME, SCRIPT + "#" * 1_000_000, COMMENT, str(tmp_path), {})
    assert Slurm(str(cluster.bin), "", 60.0).submit(long) == Known("17")


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_LIBRARY_PATH", "BASH_ENV", "http_proxy", "VLLM_USE_V1"])
def test_the_accounts_login_profile_and_the_schedulers_own_variables_reach_no_job(
    cluster: Cluster, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cluster.configure(profile={name: "/evil"})
    monkeypatch.setenv(name, "/evil")
    slurm.submit(submission(tmp_path))
    (job,) = cluster.jobs()
    assert job["environment"]["SLUICE_MODEL"] == "m"
    assert name not in job["environment"]


def test_a_value_with_a_comma_stays_one_variable(cluster: Cluster, slurm: Slurm, tmp_path: Path) -> None:
    value = "/a,LD_PRELOAD=/x"
    slurm.submit(Submission(NAME, SCRIPT, COMMENT, str(tmp_path), {"SLUICE_JOB_DIR": value}))
    (job,) = cluster.jobs()
    assert job["environment"]["SLUICE_JOB_DIR"] == value
    assert "LD_PRELOAD" not in job["environment"]


@pytest.mark.parametrize("landed", ["", "other"])
def test_the_doctors_trial_job_is_ended_where_it_landed_and_no_other_with_it(
    cluster: Cluster, tmp_path: Path, landed: str
) -> None:
    (tmp_path / "jobs").mkdir()
    other = Slurm(str(cluster.bin), "", 10.0)
    assert isinstance(other.submit(submission(tmp_path)), Known)
    cluster.configure(lands_on=landed, start_delay=60.0)
    account = SchedulerAccount(configuration(tmp_path, slurm_bin=str(cluster.bin)))
    probed = account.probe(ENTRY, 0.1)
    assert probed.answer.status == 1 and "did not report" in probed.answer.errors
    assert cluster.elsewhere() == []
    assert (cluster.jobs()[0]["name"], cluster.jobs()[0]["state"]) == (NAME, "RUNNING")
    assert [job["state"] for job in cluster.jobs()[1:]] == ([] if landed else ["CANCELLED"])
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_doctor_whose_account_cannot_be_looked_up_says_so(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: int) -> Any:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", away)
    programs._home.cache_clear()
    answer = SchedulerAccount(configuration(tmp_path, slurm_bin=str(cluster.bin))).ask(["squeue"])
    assert (answer.status, "cannot be looked up" in answer.errors) == (None, True)
