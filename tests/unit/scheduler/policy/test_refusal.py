"""What sbatch's refusals mean, and how long they make submissions wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import pytest

from sluice.scheduler.instances.instance import BURST, Instance
from sluice.scheduler.policy.policy import (
    Backoff,
    Decision,
    Forget,
    Memory,
    ModelSettings,
    SiteSettings,
    Situation,
    Submit,
    TotalDemand,
    decide,
)
from sluice.scheduler.policy.refusal import Cause, parse_refusal
from tests.unit.scheduler.policy_cases import MODEL, NOW, instance, ready

FAILED = "exit status 1: sbatch: error: Batch job submission failed: "
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
SUBMIT_LIMIT = (
    f"exit status 1: sbatch: error: QOSMaxSubmitJobPerUserLimit sbatch: error: {FAILED[40:]}{POLICY}"
)
MODEL_LIMIT = f"exit status 1: sbatch: error: QOSMaxGRESPerJob sbatch: error: {FAILED[40:]}{POLICY}"
PLUGIN = f"exit status 1: sbatch: error: no jobs on Mondays {FAILED[15:]}Unspecified error"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (SUBMIT_LIMIT, Cause.LIMIT),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED}{POLICY}", Cause.LIMIT),
        (f"sbatch: error: AssocGrpSubmitJobsLimit\n{FAILED}{POLICY}", Cause.LIMIT),
        (f"sbatch: error: QOSGrpSubmitJobsLimit\n{FAILED}{POLICY}", Cause.LIMIT),
        (f"sbatch: error: MaxSubmitJobsPerAccount\n{FAILED}{POLICY}", Cause.LIMIT),
        (f"sbatch: error: AssocMaxJobsLimit\n{FAILED}{POLICY}", Cause.LIMIT),
        (f"{FAILED}{POLICY}", Cause.LIMIT),
        (f"{FAILED}Requested account has breached requested QOS usage threshold", Cause.LIMIT),
        ("sbatch: error: MaxJobCount limit from slurm.conf reached", Cause.SITE),
        (f"{FAILED}Rate limit exceeded, please retry later", Cause.TRANSIENT),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", Cause.SITE),
        (f"{FAILED}Resource temporarily unavailable", Cause.SITE),
        (MODEL_LIMIT, Cause.MODEL),
        (f"sbatch: error: AssocMaxWallDurationPerJobLimit\n{FAILED}{POLICY}", Cause.MODEL),
        (f"sbatch: error: QOSMaxCpuPerJobLimit\n{FAILED}{POLICY}", Cause.MODEL),
        (PLUGIN, Cause.MODEL),
        ("exit status 1: sbatch: error: job_submit/lua: no", Cause.MODEL),
        (f"{FAILED}Required partition not available (inactive or drain)", Cause.MODEL),
        (f"{FAILED}Required node not available (down, drained or reserved)", Cause.MODEL),
        (f"{FAILED}Socket timed out on send/recv operation", Cause.TRANSIENT),
        (f"{FAILED}Unable to contact slurm controller (connect failure)", Cause.TRANSIENT),
        (f"{FAILED}Zero Bytes were transmitted or received", Cause.TRANSIENT),
        (f"{FAILED}I/O error writing script/environment to file", Cause.TRANSIENT),
        ("no answer within 20 s", Cause.TRANSIENT),
        (f"{FAILED}Invalid partition name specified", Cause.INVALID),
        (f"{FAILED}Invalid account or account/partition combination specified", Cause.INVALID),
        (f"{FAILED}Requested node configuration is not available", Cause.INVALID),
        ("sbatch: unrecognized option '--gress=gpu'", Cause.INVALID),
        ("", Cause.INVALID),
    ],
)
def test_slurms_words_tell_whose_fault_a_refusal_is(message: str, cause: Cause) -> None:
    assert parse_refusal(message).cause is cause


def test_the_reason_is_one_short_line() -> None:
    assert parse_refusal("two\nlines  " + "x" * 999).reason == ("two lines " + "x" * 999)[:300]


SITE = SiteSettings(max_instances=20)
ASKED = {"m": TotalDemand(0, 8, NOW), "n": TotalDemand(0, 1, NOW)}
HERE = "account=chat partition=gpu qos=(default)"
MODELS = {"m": replace(MODEL, slurm_scope=HERE), "n": replace(MODEL, name="n", slurm_scope=HERE)}
ELSEWHERE = {**MODELS, "n": replace(MODEL, name="n", slurm_scope=HERE.replace("chat", "lab"))}
FULL = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"


def refusal(message: str, created: float = NOW - 1, **changes: object) -> Instance:
    """Return a submission that sbatch refused."""
    return replace(
        instance(7, job_id="", job_state="", created=created, submit_error=message),
        **changes,  # type: ignore[arg-type]
    )


def both(
    *instances: Instance,
    now: float = NOW,
    backoff: Optional[Backoff] = None,
    memory: Optional[dict[str, Memory]] = None,
    models: Optional[dict[str, ModelSettings]] = None,
    scopes: Optional[dict[str, Backoff]] = None,
) -> Decision:
    """Decide for two models for which requests wait."""
    kept = memory or {"m": Memory(digest="d1"), "n": Memory(digest="d1")}
    situation = Situation(
        models or MODELS, instances, ASKED, kept, backoff=backoff or Backoff(), scope_backoffs=scopes or {}
    )
    return decide(situation, SITE, now)


def test_a_submit_limit_fails_no_model_and_all_of_its_account_wait() -> None:
    decision = both(refusal(SUBMIT_LIMIT))
    assert decision.actions == ()
    assert decision.backoff == Backoff()
    assert (decision.scope_backoffs[HERE].count, decision.scope_backoffs[HERE].until) == (1, NOW + 10)
    assert decision.memory["m"].failures == 0
    assert "QOSMaxSubmitJobPerUserLimit" in decision.memory["n"].obstacle


def test_a_submit_limit_of_one_account_holds_up_no_other() -> None:
    decision = both(refusal(SUBMIT_LIMIT), models=ELSEWHERE)
    assert decision.actions == (Submit("n"),)
    assert decision.memory["n"].obstacle == ""
    assert list(decision.scope_backoffs) == [HERE]


def test_a_refused_job_is_its_accounts_whatever_its_model_names_by_now() -> None:
    old = refusal(SUBMIT_LIMIT, slurm_scope="account=old partition=gpu qos=(default)")
    decision = both(old, models=ELSEWHERE)
    assert {action.model for action in decision.actions if isinstance(action, Submit)} == {"m", "n"}
    assert list(decision.scope_backoffs) == [old.slurm_scope]


def test_models_of_one_account_take_turns_while_it_is_refused() -> None:
    models = {**MODELS, "m": replace(MODELS["m"], priority=9)}
    scopes = {HERE: Backoff(count=2, at=NOW - 50, until=NOW - 1, reason="full")}
    memory = {"m": Memory(digest="d1", refused_at=NOW - 50), "n": Memory(digest="d1")}
    tried = both(models=models, scopes=scopes, memory=memory)
    assert tried.actions == (Submit("n"),)
    assert tried.memory["m"].obstacle == "full"
    unproven = instance(5, job_id="", created=NOW - 0.5, model="n", slurm_scope=HERE)
    assert both(unproven, models=models, scopes=scopes, memory=memory).actions == ()
    # One that finds no room for itself keeps nobody else from trying.
    models["n"] = replace(models["n"], gpus=99)
    site = replace(SITE, max_gpus=8)
    situation = Situation(models, (), ASKED, memory, scope_backoffs=scopes)
    assert decide(situation, site, NOW).actions == (Submit("m"),)


def test_models_take_turns_while_slurm_refuses_everybody() -> None:
    models = {**ELSEWHERE, "m": replace(MODELS["m"], priority=9)}
    backoff = Backoff(count=2, at=NOW - 50, until=NOW - 1, reason="full")
    memory = {"m": Memory(digest="d1", refused_at=NOW - 50), "n": Memory(digest="d1")}
    assert both(models=models, backoff=backoff, memory=memory).actions == (Submit("n"),)


def test_what_slurm_has_no_place_for_makes_all_models_wait() -> None:
    decision = both(refusal(FULL), models=ELSEWHERE)
    assert decision.actions == ()
    assert (decision.backoff.count, decision.backoff.until) == (1, NOW + 10)
    assert "unable to accept" in decision.memory["n"].obstacle


def test_the_same_refusal_counts_once() -> None:
    first = both(refusal(SUBMIT_LIMIT))
    again = both(refusal(SUBMIT_LIMIT), scopes=first.scope_backoffs, memory=first.memory, now=NOW + 5)
    assert again.scope_backoffs == first.scope_backoffs


@pytest.mark.parametrize("words", [SUBMIT_LIMIT, FULL])
def test_a_forgotten_refusal_of_a_limit_is_no_failure(words: str) -> None:
    lost = refusal(words, absent=2)
    decision = both(lost)
    assert decision.actions == (Forget(lost.id),)
    assert decision.memory["m"].failures == 0


def test_after_the_back_off_a_single_submission_tries_again() -> None:
    backoff = Backoff(count=3, at=NOW - 50, until=NOW - 1, reason="full")
    assert both(backoff=backoff).actions == (Submit("m"),)
    assert both(instance(5, job_id="", created=NOW - 0.5), backoff=backoff).actions == ()


def test_each_further_refusal_waits_twice_as_long_up_to_ten_minutes() -> None:
    backoff, waits, now = Backoff(), [], NOW
    scopes: dict[str, Backoff] = {}
    waited = []
    for _ in range(9):
        backoff = both(refusal(FULL, created=now - 1), now=now, backoff=backoff).backoff
        scopes = both(refusal(SUBMIT_LIMIT, created=now - 1), now=now, scopes=scopes).scope_backoffs
        waits.append(backoff.until - now)
        waited.append(scopes[HERE].until - now)
        now = backoff.until + 1
    assert waited == waits
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_submission_that_slurm_took_ends_the_waiting() -> None:
    backoff = Backoff(count=3, at=NOW - 50, until=NOW - 1, reason="full")
    decision = both(instance(5, created=NOW - 20), backoff=backoff)
    assert decision.backoff.count == 0
    assert decision.backoff.reason == ""
    assert len(decision.actions) == 2


def test_an_old_refusal_is_not_counted_again_after_another_was_taken() -> None:
    backoff = Backoff(count=1, at=NOW - 50, until=NOW - 40, reason="full")
    some = [refusal(FULL, created=NOW - 50), instance(5, created=NOW - 30)]
    after = both(*some, backoff=backoff)
    assert both(*some, backoff=after.backoff, memory=after.memory).backoff.count == 0


def test_a_plugins_refusal_makes_its_model_alone_wait() -> None:
    decision = both(refusal(PLUGIN))
    assert decision.actions == (Submit("n"),)
    assert decision.backoff == Backoff()
    memory = decision.memory["m"]
    assert memory.failures == 0
    assert memory.refused.until == NOW + 10
    assert "no jobs on Mondays" in memory.obstacle
    later = both(ready(1, model="n"), memory=decision.memory, now=NOW + 10)
    assert later.actions == (Submit("m"),)


def test_a_limit_of_burst_instances_is_their_models_own() -> None:
    models = {**MODELS, "m": replace(MODEL, max=1, burst=2)}
    decision = both(ready(1), refusal(SUBMIT_LIMIT, kind=BURST, absent=2), models=models)
    assert decision.actions == (Forget("m-00000007"), Submit("n"))
    assert decision.backoff == Backoff()
    assert decision.memory["m"].burst_refused.count == 1


def test_an_invalid_definition_is_a_failed_start() -> None:
    lost = refusal(f"{FAILED}Invalid partition name specified", absent=2)
    decision = both(lost)
    assert decision.memory["m"].failures == 1
    assert decision.actions == (Forget(lost.id), Submit("n"))


def test_a_new_definition_forgets_what_was_refused() -> None:
    memory = Memory(digest="d0", refused=Backoff(3, NOW - 5, NOW + 500, "no"))
    assert both(memory={"m": memory}).memory["m"].refused == Backoff(at=NOW - 5)
