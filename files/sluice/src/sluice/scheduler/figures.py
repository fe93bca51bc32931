"""The scheduler's figures for Prometheus, passed on by the relay. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sluice.records import Figures, RoutedModel, Sample
from sluice.scheduler.instance import Instance, Phase, phase
from sluice.scheduler.state import State

STATES = ("submitting", "pending", "starting", "ready", "sick", "draining", "ending")


def build(
    state: State, models: Mapping[str, RoutedModel], wanted: Mapping[str, int], ended: float, seconds: float
) -> Figures:
    """Return the figures of a tick that ended at `ended` and took `seconds`."""
    samples = [
        Sample("sluice_scheduler_last_tick_timestamp_seconds", "gauge", "When the last tick ended", ended),
        Sample("sluice_scheduler_tick_seconds", "gauge", "How long the last tick took", seconds),
        Sample(
            "sluice_scheduler_squeue_failures_total",
            "counter",
            "squeue answers that were missing or not understood",
            float(state.queue_failures),
        ),
        Sample(
            "sluice_scheduler_submissions_total", "counter", "Jobs handed to sbatch", float(state.submissions)
        ),
    ]
    for name in sorted(models):
        samples += _of_model(name, models[name], wanted.get(name, 0), state)
    return Figures(ended, tuple(samples))


def _of_model(name: str, model: RoutedModel, wanted: int, state: State) -> list[Sample]:
    counts = Counter(describe(one) for one in state.instances.values() if one.model == name)
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
        Sample("sluice_scheduler_model_ready", "gauge", "Instances that take requests", float(ready), labels),
        Sample("sluice_scheduler_model_wanted", "gauge", "Instances called for", float(wanted), labels),
    ]


def describe(instance: Instance) -> str:
    """Return an instance's state as one word for people and figures."""
    found = phase(instance)
    if instance.draining_since is not None and found in (Phase.READY, Phase.SICK):
        return "draining"
    return found.value
