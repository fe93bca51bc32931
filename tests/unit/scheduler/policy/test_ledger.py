"""The account of GPU-hours and cold starts."""

from __future__ import annotations

import dataclasses
import json

from sluice import config
from sluice.scheduler.policy.ledger import DAY, HOUR, Ledger, advance, runs, spent, started
from tests.unit.scheduler.policy_cases import instance, ready

MIDNIGHT = 20_776 * DAY


def test_what_runs_is_counted_by_its_gpus_and_time() -> None:
    one, two = ready(1, gpus=4, started=MIDNIGHT + 100), ready(2, gpus=1, started=MIDNIGHT)
    ledger = advance(Ledger(), [one, two], MIDNIGHT + 1000)
    assert ledger.gpu_seconds == 4 * 900 + 1000
    ledger = advance(ledger, [one, two], MIDNIGHT + 1030)
    assert spent(ledger, MIDNIGHT + 1030).gpu_hours == (4 * 930 + 1030) / HOUR


def test_pending_jobs_and_jobs_without_gpus_cost_nothing() -> None:
    assert advance(Ledger(), [instance(1, gpus=8), ready(2)], MIDNIGHT + 500).gpu_seconds == 0


def test_a_job_is_charged_no_longer_than_its_known_end() -> None:
    over = ready(1, gpus=1, started=MIDNIGHT, ends=MIDNIGHT + 60)
    assert advance(Ledger(day=20_776, at=MIDNIGHT + 30), [over], MIDNIGHT + 9000).gpu_seconds == 30


def test_the_last_run_of_a_requeued_job_is_charged_until_it_was_seen_gone() -> None:
    before = {"a": ready(1, gpus=2, started=MIDNIGHT), "b": ready(2, gpus=1, started=MIDNIGHT)}
    waiting = {"a": instance(1, gpus=2), "b": before["b"]}
    ledger = advance(Ledger(day=20_776, at=MIDNIGHT + 10), runs(before, waiting), MIDNIGHT + 40)
    assert ledger.gpu_seconds == 2 * 30 + 30
    again = {"a": ready(1, gpus=2, started=MIDNIGHT + 50), "b": before["b"]}
    assert advance(ledger, runs(waiting, again), MIDNIGHT + 60).gpu_seconds == 90 + 2 * 10 + 20


def test_a_day_begins_with_nothing_and_counts_from_midnight() -> None:
    long = ready(1, gpus=2, started=MIDNIGHT - 50_000)
    ledger = advance(Ledger(day=20_775, gpu_seconds=1e6, at=MIDNIGHT - 15), [long], MIDNIGHT + 15)
    assert ledger.gpu_seconds == 30
    assert spent(ledger, MIDNIGHT + DAY).gpu_hours == 0


def test_a_clock_set_back_takes_nothing_off() -> None:
    one = ready(1, gpus=1, started=MIDNIGHT)
    ledger = advance(Ledger(day=20_776, gpu_seconds=500.0, at=MIDNIGHT + 500), [one], MIDNIGHT + 400)
    assert ledger.gpu_seconds == 500


def test_cold_starts_count_for_an_hour() -> None:
    ledger = started(started(Ledger(), MIDNIGHT), MIDNIGHT + 1800)
    assert spent(ledger, MIDNIGHT + 1800).cold_starts == 2
    assert spent(ledger, MIDNIGHT + 3600).cold_starts == 1
    assert advance(ledger, [], MIDNIGHT + 5400).starts == ()


def test_the_ledger_outlives_a_restart() -> None:
    ledger = started(advance(Ledger(), [ready(1, gpus=1, started=MIDNIGHT)], MIDNIGHT + 9), MIDNIGHT + 9)
    document = json.loads(json.dumps(dataclasses.asdict(ledger)))
    assert config.parse(Ledger, document, "state") == ledger
