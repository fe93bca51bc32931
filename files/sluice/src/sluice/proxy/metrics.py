"""The proxy's figures for Prometheus, and those of relays and schedulers that it passes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.records import Sample

FIRST_BYTE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
DURATION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
SESSION_STATES = ("connecting", "up", "host_key_changed", "auth_failed", "closed", "down")


class SessionFigures(Protocol):
    """What a session tells of itself at the moment of a scrape."""

    @property
    def cluster(self) -> str:
        """The cluster's name."""

    @property
    def index(self) -> int:
        """Which of the cluster's sessions, from 0."""

    @property
    def state(self) -> str:
        """One of SESSION_STATES."""

    @property
    def open_streams(self) -> int:
        """Streams that are not over."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The relay's last answer to the metrics verb; empty when the session is not up."""


class Metrics:
    """All figures of one proxy, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "sluice_proxy_requests",
            "Requests answered, by model (empty where none was recognised), status and error code.",
            ["model", "status", "code"],
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "sluice_proxy_first_byte_seconds",
            "Seconds from a request to the first byte of its answer.",
            ["model"],
            buckets=FIRST_BYTE_BUCKETS,
            registry=self.registry,
        )
        self._duration = Histogram(
            "sluice_proxy_duration_seconds",
            "Seconds from a request to the end of its answer.",
            ["model"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self._authority = Counter(
            "sluice_proxy_principals",
            "Keys checked, by how: hit, negative_hit, asked, stale, unreachable, malformed.",
            ["result"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "sluice_proxy_usage_dropped",
            "Usage records lost to bounded memory or refused.",
            registry=self.registry,
        )
        self._retries = Counter(
            "sluice_proxy_retries",
            "Requests sent a second time after a session was lost.",
            registry=self.registry,
        )
        # Finding a child by its labels costs more than counting in it.
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._times: dict[str, tuple[Histogram, Histogram]] = {}
        self.open_requests = Gauge(
            "sluice_proxy_open_requests", "Requests being answered.", registry=self.registry
        )
        self.held_bytes = Gauge(
            "sluice_proxy_held_body_bytes", "Bytes of request bodies in memory.", registry=self.registry
        )
        self.usage_waiting = Gauge(
            "sluice_proxy_usage_waiting",
            "Usage records that the authority has not taken yet.",
            registry=self.registry,
        )

    def answered(self, model: str, status: int, code: str, first_byte: float | None, duration: float) -> None:
        """Count one request at its end; times in seconds."""
        key = (model, str(status), code)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(*key)
        counter.inc()
        times = self._times.get(model)
        if times is None:
            times = self._times[model] = (self._duration.labels(model), self._first_byte.labels(model))
        times[0].observe(duration)
        if first_byte is not None:
            times[1].observe(first_byte)

    def authority(self, result: str) -> None:
        """Count one check of a key."""
        self._authority.labels(result).inc()

    def usage_dropped(self, count: int) -> None:
        """Count usage records that are lost."""
        self._dropped.inc(count)

    def retried(self) -> None:
        """Count a request that is sent once more."""
        self._retries.inc()

    def watch(self, sessions: Iterable[SessionFigures]) -> None:
        """Show these sessions, and what their relays report, from now on."""
        self.registry.register(_SessionCollector(list(sessions)))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _SessionCollector(Collector):
    def __init__(self, sessions: list[SessionFigures]) -> None:
        self._sessions = sessions

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: the relays decide which samples there are."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the sessions' states, then the relays' samples."""
        yield from self._own()
        yield from _families(self._sessions)

    def _own(self) -> Iterator[Metric]:
        labels = ["cluster", "session"]
        up = GaugeMetricFamily("sluice_proxy_session_up", "Whether the SSH session is up.", labels=labels)
        states = GaugeMetricFamily(
            "sluice_proxy_session_state", "1 for the state the session is in.", labels=[*labels, "state"]
        )
        streams = GaugeMetricFamily(
            "sluice_proxy_open_streams", "Streams open on the session.", labels=labels
        )
        for session in self._sessions:
            key = [session.cluster, str(session.index)]
            up.add_metric(key, float(session.state == "up"))
            streams.add_metric(key, session.open_streams)
            for state in SESSION_STATES:
                states.add_metric([*key, state], float(session.state == state))
        yield from (up, states, streams)


def _families(sessions: list[SessionFigures]) -> Iterator[Metric]:
    """Group the relays' samples by name.

    Relays differ by session; the scheduler's figures are the cluster's and are taken once.
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
    """Whether a sample goes with the first of its name; a family has one kind and one set of labels."""
    return family.type == sample.kind and list(family._labelnames) == sorted(labels)
