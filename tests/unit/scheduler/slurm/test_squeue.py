"""What squeue and scontrol print is read by place; no text that anybody can write is taken for structure."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Optional

import pytest

from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.slurm.squeue import new_mark, parse_job, parse_queue, parse_time, queue_format
from tests.unit.scheduler import recorded
from tests.unit.scheduler.recorded import MARK, RECORDED, printed

DIGEST = "ab" * 32
NAME = "sluice:m-00000001"
FOLDER = "/shared/jobs/m-00000001"
FACTS = {
    "job_id": "17",
    "state": "RUNNING",
    "submitted": "2026-11-22T07:00:00",
    "started": "2026-11-22T07:00:01",
    "ends": "2026-11-22T08:00:01",
    "nodes": "c[1-2]",
}
TEXTS = {"reason": "None", "comment": DIGEST, "name": NAME, "directory": FOLDER}
JOB = QueueJob(
    job_id="17",
    name=NAME,
    state="RUNNING",
    reason="None",
    digest=DIGEST,
    submitted=1795330800.0,
    started=1795330801.0,
    ends=1795334401.0,
    nodes=("c1", "c2"),
    directory=FOLDER,
)
UNREADABLE = QueueJob("", "", "")


def line(**changes: str) -> str:
    """Return what squeue prints of one job."""
    facts, texts = (
        {**fields, **{k: v for k, v in changes.items() if k in fields}} for fields in (FACTS, TEXTS)
    )
    return printed("|".join(facts.values()), **texts)


def parse(text: str) -> tuple[QueueJob, ...]:
    """Read an answer to the question with MARK."""
    return parse_queue(text, MARK)


def test_a_job_is_read_whole() -> None:
    assert parse(line()) == (JOB,)


def test_a_pending_job_has_no_times_and_no_nodes() -> None:
    (job,) = parse(line(state="PENDING", started="N/A", ends="N/A", nodes="", reason="Resources"))
    assert (job.started, job.ends, job.nodes, job.reason) == (None, None, (), "Resources")


HOSTILE = {
    "a line end": "moved by ops\nticket 12",
    "many line ends": "\n" * 500,
    "carriage returns": "a\r\rb\r\n",
    "a tab": "a\tb",
    "bars": "a|b||c|",
    "a whole line of another job": "x\n18|CANCELLED|N/A|N/A|N/A|c1|None|x|sluice:m-00000002",
    "a line with another mark": line().replace(MARK, "fedcba9876543210"),
    "the format": queue_format("fedcba9876543210"),
    "other separators": "\x1c\x1d\x1e\x1f\x0b\x0c\x85\u2028\u2029",
    "an override of the direction": "\u202egnp.exe\u2066",
    "colours of a terminal": "\x1b[31m\x1b]0;title\x07",
    "sixty-four thousand bytes": "x" * 65_536,
    "what was no UTF-8": "\ufffd\ufffd",
    "nothing": "",
    "what is printed for nothing": "(null)",
    "spaces": "   ",
}


@pytest.mark.parametrize("where", ["reason", "comment", "name", "directory"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_of_a_job_hides_changes_or_makes_another(where: str, text: str) -> None:
    before = line(job_id="16", name="sluice:m-00000000")
    after = line(job_id="18", name="sluice:m-00000002")
    jobs = parse(before + line(**{where: text}) + after)
    assert [job.job_id for job in jobs] == ["16", "17", "18"]
    assert [job.name for job in jobs[::2]] == ["sluice:m-00000000", "sluice:m-00000002"]
    changed = {where: getattr(jobs[1], where)} if where != "comment" else {"digest": "", "kind": "base"}
    assert jobs[1] == replace(JOB, **changed)
    assert len(jobs[1].reason) <= 200 and len(jobs[1].name) <= 100


def test_random_texts_never_change_what_is_read_of_others() -> None:
    chance = Random(7)
    alphabet = "|\n\t .%[](),=sluice:m-0123456789abcdef\u202e\x00\x1b"
    for _ in range(2000):
        texts = {
            where: "".join(chance.choices(alphabet, k=chance.randrange(80)))
            for where in ("reason", "comment", "name", "directory")
        }
        mark = new_mark()
        answer = (line() + line(job_id="18", **texts) + line(job_id="19")).replace(MARK, mark)
        first, second, third = parse_queue(answer, mark)
        assert first == JOB and third == replace(JOB, job_id="19")
        assert replace(second, reason="", digest="", kind="base", name="", directory="") == replace(
            JOB, job_id="18", reason="", digest="", name="", directory=""
        )


@pytest.mark.parametrize(
    "changes",
    [{"state": "running?"}, {"state": ""}, {"started": "yesterday"}, {"ends": "2026-11-22T07:00:01+00:00"}],
)
def test_a_job_that_is_not_understood_is_there_and_is_the_only_one(changes: dict[str, str]) -> None:
    jobs = parse(line(job_id="16") + line(**changes) + line(job_id="18"))
    assert jobs == (
        replace(JOB, job_id="16"),
        QueueJob("17", NAME, "", directory=FOLDER),
        replace(JOB, job_id="18"),
    )


@pytest.mark.parametrize("noise", ["Maintenance on Tuesday\n", "17|RUN\n", "a\n\nb\n"])
def test_what_a_wrapper_says_beside_the_jobs_leaves_them_known_but_not_all_of_them(noise: str) -> None:
    for answer in (noise + line(), line() + noise, line() + noise + line(job_id="18")):
        jobs = parse(answer)
        assert jobs[0] == JOB and jobs[-1] == UNREADABLE


def test_an_answer_that_was_cut_off_within_a_job_never_says_that_nobody_is_missing() -> None:
    first, second = line(), line(job_id="18")
    for left in range(1, len(second) - 2):
        jobs = parse(first + second[:left])
        assert jobs == (JOB, UNREADABLE)


@pytest.mark.parametrize(
    "text", ["slurm_load_jobs: something\n", "17|RUNNING|\n", "\N{SNOWMAN} slurm_load: 17|what"]
)
def test_an_answer_without_a_job_but_with_something_else_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="understood"):
        parse(text)


def test_no_jobs_is_an_answer() -> None:
    assert parse("") == ()
    assert parse("\n") == ()


def test_an_answer_to_another_question_is_none_to_this() -> None:
    with pytest.raises(ValueError, match="understood"):
        parse_queue(line(), "fedcba9876543210")


def test_nodes_that_cannot_be_read_leave_the_job_known() -> None:
    assert parse(line(nodes="c[1-2]x[3-4]")) == (replace(JOB, nodes=()),)


def test_a_reason_with_spaces_parentheses_and_nodes_is_one_text() -> None:
    reason = "ReqNodeNotAvail, UnavailableNodes:gpu[05-07] (Nodes required for job are DOWN, DRAINED)"
    assert parse(line(reason=reason))[0].reason == reason


def test_scontrol_for_another_job_is_not_believed() -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse_job("JobId=18 JobName=x JobState=RUNNING", "17")


def test_free_text_of_scontrol_cannot_overwrite_what_came_before() -> None:
    text = f"JobId=17 JobName={NAME} JobState=RUNNING Comment=JobState=FAILED Command=JobState=FAILED"
    assert parse_job(text, "17").state == "RUNNING"


@pytest.mark.parametrize(
    "name",
    [
        "x JobState=COMPLETED",
        "x\nJobState=COMPLETED",
        "x JobId=18",
        "x Reason=none NodeList=evil",
        "x EndTime=x",
    ],
)
def test_a_name_that_looks_like_an_answer_makes_scontrols_answer_unknown(name: str) -> None:
    real = (RECORDED / "scontrol-running-24.11.txt").read_text()
    assert parse_job(real, "15").state == "RUNNING"
    with pytest.raises(ValueError, match="understood"):
        parse_job(real.replace("JobName=", f"JobName={name} "), "15")


@pytest.mark.parametrize("text", ["N/A", "Unknown", "NONE", ""])
def test_a_time_that_slurm_does_not_have_is_none(text: str) -> None:
    assert parse_time(text) is None


def test_what_a_real_slurm_printed_of_hostile_texts_is_read_job_by_job() -> None:
    jobs = parse((RECORDED / "squeue-texts-22.05.txt").read_bytes().decode("utf-8", "replace"))
    assert {job.job_id: job.name for job in jobs} == {
        "1": "moved by\nops",
        "2": "sluice:m-00000002",
        "3": "moved by ops\nticket 12",
        "4": "a\tb|c|",
        "5": "x\n1|CANCELLED|N/A|N/A|N/A||None|x|sluice:m-00000001",
        "6": "\u202egnp\u2066",
        "7": "x" * 100,
        "8": "\x1b[31m",
    }
    assert {job.job_id: job.state for job in jobs} == {
        **{str(n): "PENDING" for n in range(2, 9)},
        "1": "CANCELLED",
    }
    assert [(job.job_id, job.kind, job.digest) for job in jobs if job.digest] == [("2", "burst", DIGEST)]
    assert {job.directory for job in jobs} == {"/tmp", "/shared/jobs/m-00000001"}


def test_what_a_real_slurm_printed_is_read_line_by_line() -> None:
    jobs = recorded.queue("squeue-22.05.txt")
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
    jobs = recorded.queue(f"squeue-{version}.documented.txt")
    assert [job.state for job in jobs] == ["RUNNING", "PENDING", "RUNNING", "PENDING", still]
    assert jobs[0].nodes == ("gpu01", "gpu02")
    assert jobs[0].ends == (jobs[0].started or 0.0) + 86_400
    assert jobs[1].started is None and jobs[1].reason == (
        waits or "ReqNodeNotAvail, UnavailableNodes:gpu[05-07]"
    )
    assert jobs[2].ends is None and jobs[2].kind == "burst"
    assert jobs[3].reason == held
    assert all(job.digest == DIGEST for job in jobs)
