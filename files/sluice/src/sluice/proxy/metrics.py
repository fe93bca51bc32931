"""The proxy's metrics for Prometheus, together with those of relays and schedulers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.contracts.metrics import Sample
from sluice.contracts.values import CLASSES

FIRST_BYTE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
DURATION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
WAIT_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
SESSION_STATES = ("connecting", "up", "host_key_changed", "auth_failed", "closed", "down")


class MeasuredSession(Protocol):
    """What the metrics read from a session at each scrape."""

    @property
    def cluster(self) -> str:
        """The cluster's name."""

    @property
    def index(self) -> int:
        """The session's number in its cluster, from 0."""

    @property
    def state(self) -> str:
        """One of SESSION_STATES."""

    @property
    def open_streams(self) -> int:
        """The number of open streams."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples of the relay's last answer to the metrics verb; empty if the session is not up."""


class Histogram:
    """A histogram of times; `bounds` are the upper bounds of its buckets, in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Add the counts to `family`."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self._sum)


class Metrics:
    """All metrics of one proxy, in a registry of its own.

    What changes with each request is counted in plain numbers, only on the event loop's thread, and exported
    at a scrape: prometheus_client's own counters cost thirty times as much.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests: dict[tuple[str, int, str], int] = {}
        self.durations: dict[str, Histogram] = {}
        self.first_bytes: dict[str, Histogram] = {}
        self.principals: dict[str, int] = {}
        self.waits: dict[str, Histogram] = {}
        self.refused: dict[tuple[str, str], int] = {}
        self.queues: Callable[[], Mapping[str, Sequence[int]]] = dict
        self.open_requests = 0
        self.held_bytes = 0
        self.registry.register(_RequestCollector(self))
        self._dropped = Counter(
            "sluice_proxy_usage_dropped",
            "Usage records lost to the spool's bounds or refused.",
            registry=self.registry,
        )
        self._retries = Counter(
            "sluice_proxy_retries",
            "Requests sent a second time after a session was lost.",
            registry=self.registry,
        )
        self.usage_waiting = Gauge(
            "sluice_proxy_usage_waiting",
            "Usage records that the authority has not stored yet.",
            registry=self.registry,
        )

    def answered(self, model: str, status: int, code: str, first_byte: float | None, duration: float) -> None:
        """Count one request at its end; times are in seconds."""
        key = (model, status, code)
        self.requests[key] = self.requests.get(key, 0) + 1
        times = self.durations.get(model)
        if times is None:
            times = self.durations[model] = Histogram(DURATION_BUCKETS)
            self.first_bytes[model] = Histogram(FIRST_BYTE_BUCKETS)
        times.observe(duration)
        if first_byte is not None:
            self.first_bytes[model].observe(first_byte)

    def waited(self, model: str, seconds: float) -> None:
        """Count one request that had to wait, at the end of its wait."""
        times = self.waits.get(model)
        if times is None:
            times = self.waits[model] = Histogram(WAIT_BUCKETS)
        times.observe(seconds)

    def turned_away(self, model: str, reason: str) -> None:
        """Count a request that the queue refused; `reason` is one of those of sluice.proxy.queue.waiting."""
        self.refused[model, reason] = self.refused.get((model, reason), 0) + 1

    def watch_queues(self, queues: Callable[[], Mapping[str, Sequence[int]]]) -> None:
        """Export from now on what `queues` returns: how many wait, by model and then by class."""
        self.queues = queues

    def authority(self, result: str) -> None:
        """Count one check of a key; `result` is one of those that the metric's help lists."""
        self.principals[result] = self.principals.get(result, 0) + 1

    def usage_dropped(self, count: int) -> None:
        """Count usage records that are lost."""
        self._dropped.inc(count)

    def retried(self) -> None:
        """Count a request that is sent again."""
        self._retries.inc()

    def watch(self, sessions: Iterable[MeasuredSession]) -> None:
        """Export these sessions and their relays' metrics from now on."""
        self.registry.register(_SessionCollector(list(sessions)))

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _RequestCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are known only at a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of requests."""
        metrics = self._metrics
        requests = CounterMetricFamily(
            "sluice_proxy_requests",
            "Requests answered, by model (empty where none was recognised), status and error code.",
            labels=["model", "status", "code"],
        )
        for (model, status, code), count in metrics.requests.items():
            requests.add_metric([model, str(status), code], count)
        yield requests
        principals = CounterMetricFamily(
            "sluice_proxy_principals",
            "Checked keys, by result: hit, negative_hit, asked, stale, unreachable, malformed, slowed.",
            labels=["result"],
        )
        for result, count in metrics.principals.items():
            principals.add_metric([result], count)
        yield principals
        yield from self._times()
        yield from self._queues()
        yield GaugeMetricFamily("sluice_proxy_open_requests", "Open requests.", metrics.open_requests)
        yield GaugeMetricFamily(
            "sluice_proxy_held_body_bytes",
            "Bytes of memory that request bodies use or have reserved.",
            metrics.held_bytes,
        )

    def _times(self) -> Iterator[Metric]:
        for name, text, found in (
            (
                "first_byte",
                "Seconds from a request to the first byte of its answer.",
                self._metrics.first_bytes,
            ),
            ("duration", "Seconds from a request to the end of its answer.", self._metrics.durations),
            ("wait", "Seconds of waiting, of requests that had to wait.", self._metrics.waits),
        ):
            family = HistogramMetricFamily(f"sluice_proxy_{name}_seconds", text, labels=["model"])
            for model, times in found.items():
                times.add_to(family, [model])
            yield family

    def _queues(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "sluice_proxy_waiting", "Requests that wait for an instance.", labels=["model", "class"]
        )
        for model, counts in self._metrics.queues().items():
            for class_, count in zip(CLASSES, counts, strict=True):
                waiting.add_metric([model, class_], count)
        yield waiting
        refused = CounterMetricFamily(
            "sluice_proxy_refused",
            "Requests sent away, by reason: queue_full, user_full, too_late, no_room, vain.",
            labels=["model", "reason"],
        )
        for labels, count in self._metrics.refused.items():
            refused.add_metric(list(labels), count)
        yield refused


class _SessionCollector(Collector):
    def __init__(self, sessions: list[MeasuredSession]) -> None:
        self._sessions = sessions

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the relays decide which samples there are."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the sessions' states and the relays' samples."""
        yield from self._own()
        yield from _families(self._sessions)

    def _own(self) -> Iterator[Metric]:
        labels = ["cluster", "session"]
        up = GaugeMetricFamily("sluice_proxy_session_up", "Whether the SSH session is up.", labels=labels)
        states = GaugeMetricFamily(
            "sluice_proxy_session_state", "1 for the state the session is in.", labels=[*labels, "state"]
        )
        streams = GaugeMetricFamily(
            "sluice_proxy_open_streams", "Open streams of the session.", labels=labels
        )
        for session in self._sessions:
            key = [session.cluster, str(session.index)]
            up.add_metric(key, float(session.state == "up"))
            streams.add_metric(key, session.open_streams)
            for state in SESSION_STATES:
                states.add_metric([*key, state], float(session.state == state))
        yield from (up, states, streams)


def _families(sessions: list[MeasuredSession]) -> Iterator[Metric]:
    """Group the relays' samples by name.

    A relay's samples get a session label; the scheduler's are the same in all sessions and are taken once.
    """
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    seen: set[tuple[object, ...]] = set()
    for session in sessions:
        for sample in session.samples:
            labels = {**sample.labels, "cluster": session.cluster}
            if sample.name.startswith("sluice_relay_"):
                labels["session"] = str(session.index)
            key = (sample.name, tuple(sorted(labels.items())))
            family = families.setdefault(sample.name, _family(sample, sorted(labels)))
            if key in seen or not _fits(family, sample, labels):
                continue
            seen.add(key)
            family.add_metric([labels[name] for name in sorted(labels)], sample.value)
    yield from families.values()


def _family(sample: Sample, labels: list[str]) -> GaugeMetricFamily | CounterMetricFamily:
    if sample.kind == "counter":
        return CounterMetricFamily(sample.name, sample.help, labels=labels)
    return GaugeMetricFamily(sample.name, sample.help, labels=labels)


def _fits(family: GaugeMetricFamily | CounterMetricFamily, sample: Sample, labels: dict[str, str]) -> bool:
    """Whether a sample has the kind and the labels of its family."""
    return family.type == sample.kind and list(family._labelnames) == sorted(labels)
