"""The scheduler's metrics for Prometheus, which the relay passes on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sluice.contracts.metrics import MetricsSnapshot, Sample
from sluice.contracts.routing import RoutedModel
from sluice.scheduler.instances.instance import SUSPENDED, Instance, Phase, gone, phase, treatment_of
from sluice.scheduler.instances.reasons import Treatment
from sluice.scheduler.policy import ledger
from sluice.scheduler.policy.memory import Memory, stalls
from sluice.scheduler.state import State

STATES = (
    "submitting",
    "pending",
    "held",
    "starting",
    "ready",
    "stalled",
    "sick",
    "suspended",
    "leaving",
    "draining",
    "ending",
)


def build(
    state: State, models: Mapping[str, RoutedModel], wanted: Mapping[str, int], ended: float, seconds: float
) -> MetricsSnapshot:
    """Return the metrics after a tick that ended at `ended` (seconds since the epoch) and took `seconds`."""
    samples = [
        Sample("sluice_scheduler_last_tick_timestamp_seconds", "gauge", "When the last tick ended", ended),
        Sample("sluice_scheduler_tick_seconds", "gauge", "How long the last tick took", seconds),
        Sample(
            "sluice_scheduler_squeue_failures_total",
            "counter",
            "Missing or unreadable answers of squeue",
            float(state.queue_failures),
        ),
        Sample(
            "sluice_scheduler_submissions_total",
            "counter",
            ("Jobs submitted with sbatch"),
            float(state.submissions),
        ),
    ]
    by_model: dict[str, list[Instance]] = {name: [] for name in models}
    for one in state.instances.values():
        if one.model in by_model:
            by_model[one.model].append(one)
    for name in sorted(models):
        samples += _of_model(name, models[name], wanted.get(name, 0), by_model[name])
        samples.append(_stalls(name, stalls(state.memory.get(name, Memory()), ended)))
    samples += _of_service(state, ended)
    return MetricsSnapshot(ended, tuple(samples))


def _of_service(state: State, now: float) -> list[Sample]:
    """Return what the whole service uses, and whether a limit of Slurm blocks its submissions."""
    present = [one for one in state.instances.values() if not gone(one)]
    spent = ledger.spent(state.ledger, now)
    limited = any(one.reason and one.until > now for one in (state.backoff, *state.scope_backoffs.values()))
    return [
        Sample("sluice_scheduler_gpus", "gauge", "GPUs of all jobs", float(sum(one.gpus for one in present))),
        Sample(
            "sluice_scheduler_nodes",
            "gauge",
            "Nodes of all jobs",
            float(sum(one.asked_nodes for one in present)),
        ),
        Sample("sluice_scheduler_gpu_hours_today", "gauge", "GPU-hours since 0:00 UTC", spent.gpu_hours),
        Sample(
            "sluice_scheduler_limited",
            "gauge",
            "1 while a limit of Slurm blocks submissions",
            float(limited),
        ),
    ]


def _of_model(name: str, model: RoutedModel, wanted: int, instances: Iterable[Instance]) -> list[Sample]:
    counts = Counter(describe(one) for one in instances)
    ready = sum(one.state == "ready" for one in model.instances)
    labels = {"model": name}
    return [
        *(
            Sample(
                "sluice_scheduler_instances",
                "gauge",
                "Instances by model and state",
                float(counts[word]),
                {"model": name, "state": word},
            )
            for word in STATES
        ),
        Sample(
            "sluice_scheduler_model_ready", "gauge", ("Instances that accept requests"), float(ready), labels
        ),
        Sample("sluice_scheduler_model_wanted", "gauge", "Instances wanted", float(wanted), labels),
        Sample(
            "sluice_scheduler_model_failed",
            "gauge",
            "1 while a model counts as failed",
            float(model.status == "failed"),
            labels,
        ),
    ]


def _stalls(name: str, count: int) -> Sample:
    return Sample(
        "sluice_scheduler_model_stalls",
        "gauge",
        "How often in a row an instance was ended because its engine had no output",
        float(count),
        {"model": name},
    )


def describe(instance: Instance) -> str:
    """Return an instance's state, one of STATES or `gone`, for people and metrics."""
    found = phase(instance)
    if instance.job_state in SUSPENDED and found is Phase.SICK:
        return "suspended"
    if found in (Phase.READY, Phase.SICK) and instance.leaving:
        return "leaving"
    if found in (Phase.READY, Phase.SICK) and instance.draining_since is not None:
        return "draining"
    if found is Phase.PENDING and treatment_of(instance) in (Treatment.ENDS, Treatment.LEFT):
        return "held"
    if found is Phase.READY and instance.stalled:
        return "stalled"
    return found.value
