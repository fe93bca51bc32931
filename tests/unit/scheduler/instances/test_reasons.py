"""Slurm's job states and reasons, each with what Sluice does: rows of Slurm's own source, one by one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.scheduler.instances import reasons
from sluice.scheduler.instances.instance import (
    COMPLETING,
    RUNNING,
    SUSPENDED,
    TERMINAL,
    Phase,
    hindered,
    phase,
)
from sluice.scheduler.instances.reasons import REASONS, STATES, Treatment, treatment
from sluice.scheduler.policy.job_checks import held_by_person
from sluice.scheduler.policy.policy import Cancel, Decision
from tests.unit.scheduler.policy_cases import MODEL, NOW, SETTINGS, decided, instance

ROOT = Path(__file__).parents[4]
WORDS = json.loads((ROOT / "tests/golden/slurm/job-words.json").read_text())
ONE = replace(MODEL, min=1, max=1)
LONG = SETTINGS.pending_patience

# Free texts as slurmctld writes them into a reason's place.
TEXTS = {
    "launch failed requeued held": Treatment.ENDS,
    "launch failure limit exceeded requeued held": Treatment.ENDS,
    "user env retrieval failed requeued held": Treatment.ENDS,
    "job requeued in held state": Treatment.ENDS,
    "job requeued in special exit state": Treatment.ENDS,
    "Reservation chat was deleted": Treatment.ENDS,
    "Reservation chat is invalid": Treatment.ENDS,
    "Reservation chat, which this job was running under, has ended": Treatment.WAITS,
    "ReqNodeNotAvail, UnavailableNodes:c[1-4]": Treatment.TELLS,
    "ReqNodeNotAvail, May be reserved for other job": Treatment.TELLS,
    "ReqNodeNotAvail, Reserved for maintenance": Treatment.TELLS,
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        Treatment.TELLS
    ),
    "Nodes required for job are DOWN, DRAINED, REBOOTING or reserved for jobs in higher priority "
    "partitions": Treatment.TELLS,
    "Job is at or exceeds QOS chat's group max TRES(gres/gpu) minutes of 60 with 60": Treatment.TELLS,
    "Job is at or exceeds association (acc=chat/user=sluice/part=gpu) group wall limit 60 with 60": (
        Treatment.TELLS
    ),
    "RaisedSignal:9(Killed)": Treatment.WAITS,
    "uid 990 not in group permitted to use this partition (gpu). groups allowed: hpc": Treatment.GIVES_UP,
    "Job's QOS not known, so it can't use this partition (gpu allows chat)": Treatment.GIVES_UP,
    "Job's QOS not permitted to use this partition (gpu denies chat including chat)": Treatment.GIVES_UP,
    "Job's account not permitted to use this partition (gpu allows hpc not chat)": Treatment.GIVES_UP,
    "burst_buffer/lua: stage_in: no space": Treatment.GIVES_UP,
    "a reason of a later version": Treatment.GIVES_UP,
    "4711": Treatment.GIVES_UP,
    "": Treatment.WAITS,
}


def test_every_reason_and_state_of_slurms_source_has_its_row_and_no_row_is_made_up() -> None:
    assert set(REASONS) == set(WORDS["reasons"])
    assert set(STATES) == set(WORDS["states"])


def waiting(state: str, reason: str, waited: float) -> Decision:
    """Decide about an instance whose job has waited so long in this state, for this reason."""
    one = instance(job_state=state, reason=reason, created=NOW - waited)
    return decided([hindered(one, NOW - waited)], model=ONE)


def check(state: str, reason: str, expected: Treatment) -> None:
    """Assert what becomes of such a job, soon and late."""
    assert treatment(state, reason) is expected
    soon, late = waiting(state, reason, 30.0), waiting(state, reason, LONG)
    for decision, ends in (
        (soon, expected is Treatment.ENDS),
        (late, expected in (Treatment.ENDS, Treatment.GIVES_UP)),
    ):
        cancelled = [action for action in decision.actions if isinstance(action, Cancel)]
        assert bool(cancelled) is ends
        assert decision.memory["m"].failures == ends
        told = decision.memory["m"].message if ends else decision.memory["m"].obstacle
        passes = expected is Treatment.WAITS
        assert bool(told) is not passes
        assert passes or (reason if reason not in ("", "None") else state) in told
        # Whatever waits is not doubled.
        assert ends or decision.actions == ()


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_pending_job_is_treated_by_its_reason(reason: str) -> None:
    check("PENDING", reason, REASONS[reason])


@pytest.mark.parametrize("text", TEXTS)
def test_a_free_text_in_a_reasons_place_is_treated_by_its_words(text: str) -> None:
    check("PENDING", text, TEXTS[text])
    # As scontrol prints it.
    assert treatment("PENDING", text.replace(" ", "_")) is TEXTS[text]


@pytest.mark.parametrize("state", sorted(set(STATES) | {"A_LATER_ONE"}))
def test_a_job_is_treated_by_its_state(state: str) -> None:
    found = STATES.get(state, Treatment.GIVES_UP)
    if found is Treatment.BY_REASON:
        check(state, "Priority", Treatment.WAITS)
        check(state, "BadConstraints", Treatment.ENDS)
    elif found is Treatment.FOLLOWS:
        assert state in TERMINAL | RUNNING | SUSPENDED | COMPLETING
        assert phase(instance(job_state=state)) not in (Phase.PENDING, Phase.SUBMITTING)
    else:
        check(state, "None", found)
        check(state, "JobHeldUser", found)
    known = TERMINAL | RUNNING | SUSPENDED | COMPLETING
    assert (state in known) is (found is Treatment.FOLLOWS)


def test_a_job_that_a_person_holds_is_told_and_left_for_as_long_as_they_like() -> None:
    one = instance(reason="JobHeldAdmin", created=NOW - 30 * 86_400)
    decision = decided([one], model=ONE)
    assert held_by_person(one)
    assert decision.actions == ()
    assert decision.memory["m"].obstacle == "job 1 is held (JobHeldAdmin): scontrol release 1"


def test_nothing_is_given_up_where_the_site_says_never() -> None:
    one = instance(reason="InvalidAccount", hindered_since=NOW - 1e6)
    assert decided([one], model=ONE, settings=replace(SETTINGS, pending_patience=0.0)).actions == ()


def test_the_document_names_every_row_under_what_is_done() -> None:
    text = (ROOT / "docs/scheduler.md").read_text()
    section = text.partition("## States and reasons of Slurm")[2].partition("\n## ")[0]
    for table, kind in ((STATES, "state"), (REASONS, "reason")):
        for name, found in table.items():
            rows = re.findall(rf"(?m)^\| {re.escape(found.value)} \| {kind} \| (.*) \|$", section)
            assert any(f"`{name}`" in row for row in rows), f"{name}: {found.value}"


def patterns(texts: list[str]) -> set[str]:
    """Return the pattern of the code that decides about each of `texts`."""
    return {
        next((pattern for pattern, _ in reasons.TEXTS if re.fullmatch(pattern, text)), "") for text in texts
    } - {""}


def test_every_free_text_of_the_code_is_tried() -> None:
    assert patterns(list(TEXTS)) == {pattern for pattern, _ in reasons.TEXTS}


def test_the_document_names_every_free_text_under_what_is_done() -> None:
    table = (
        (ROOT / "docs/scheduler.md").read_text().partition("| treatment | texts |")[2].partition("\n\n")[0]
    )
    found = {}
    for done, texts in re.findall(r"(?m)^\| ([^|`]+) \| (`.*) \|$", table):
        found.update(dict.fromkeys(re.findall(r"`([^`]+)`", texts), done))
    for text, done in found.items():
        said = re.sub(r"\bN\b", "990", text)
        assert patterns([said]), f"{text}: the code has no such text"
        assert treatment("PENDING", said).value == done, text
    assert patterns([re.sub(r"\bN\b", "990", text) for text in found]) == {
        pattern for pattern, _ in reasons.TEXTS
    }
