"""Every parameter of the simulated week, and its source.

A source gives the form of a distribution. If it says "as reported", it gives the numbers too. The other
numbers are rounded choices within what the source describes. docs/simulation.md has them as a table.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WEEK = 7 * DAY


@dataclass(frozen=True)
class Load:
    """The requests of a week; times in seconds, tokens at the speed of one stream."""

    # BurstGPT (arXiv:2401.17644): 10.3 million requests in 213 days, 340,000 a week, from one region;
    # three times as many, for a service of a region with many models.
    requests_per_week: float = 1_000_000.0
    # MuxServe (ICML 2024) draws the popularity of models from power laws with exponents from 0.7 to 2.1.
    # Aegaeon (SOSP 2025) reports 1.35 % of all requests for the less popular 94 % of a market's models,
    # which would be a steeper one, and easier on every policy.
    popularity: float = 1.5
    # Azure's LLM inference trace 2024 (DynamoLLM, arXiv:2408.00741) and BurstGPT: low at night, high in
    # working hours, low at week-ends. The share of the highest hour, by hour of the day.
    day: tuple[float, ...] = (
        *(0.12, 0.08, 0.06, 0.05, 0.05, 0.07, 0.15, 0.35, 0.65, 0.85, 0.95, 1.00),
        *(0.85, 0.90, 1.00, 0.98, 0.90, 0.75, 0.55, 0.45, 0.42, 0.38, 0.30, 0.20),
    )
    weekend: float = 0.35
    # BurstGPT: arrivals vary more than Poisson's; rates are gamma distributed. The shape of the factor by
    # which a model's hour differs from the curve (1 would be exponential).
    hour_shape: float = 3.0
    # LMSYS-Chat-1M (arXiv:2309.11998): two turns a conversation on average; people read and type between.
    turns: float = 2.5
    pause_median: float = 45.0
    pause_sigma: float = 0.9
    # Azure's trace 2023 (Splitwise, ISCA 2024) has a service whose callers are programs, BurstGPT one by API:
    # so many sessions are a burst of requests (Pareto, heavy tail) close to each other.
    burst_share: float = 0.04
    burst_least: float = 8.0
    burst_tail: float = 1.5
    burst_most: float = 1500.0
    burst_gap: float = 1.5
    # Splitwise and BurstGPT: answers of a hundred to several hundred tokens with a tail to thousands, made at
    # 20-50 tokens a second; answers that reason are longer. Log-normal, mean
    # 40 s, one in a hundred over 280 s.
    duration_median: float = 22.0
    duration_sigma: float = 1.1
    duration_most: float = 900.0


@dataclass(frozen=True)
class Fleet:
    """What the models' instances are."""

    # As 1, 2, 4 and 8 GPUs hold weights of about 30, 70, 140 and 400 GB.
    gpus: tuple[int, ...] = (1, 2, 4, 8)
    gpus_share: tuple[float, ...] = (0.55, 0.22, 0.16, 0.07)
    # SAIA (github.com/gwdg/saia-hpc): 5 inferences an instance where nothing else is set; ours: 16.
    concurrency: int = 5
    # ServerlessLLM (OSDI 2024) and vLLM's own logs: minutes from process start to first answer with weights
    # on a shared file system, more for larger ones. Seconds for 1, 2, 4, 8 GPUs; log-normal.
    load_median: tuple[float, ...] = (75.0, 110.0, 170.0, 280.0)
    load_sigma: float = 0.25
    # The contract's default is one day; SAIA's documented services run for hours to a day.
    wall: float = 24 * HOUR
    max_instances: int = 60
    burst_models: int = 20
    burst_instances: int = 4
    # Jobs that end before they are ready: Kokolis et al. (HPCA 2025, arXiv:2410.21680) report a few per cent
    # of jobs failing for reasons of hardware and system.
    start_failures: float = 0.02


@dataclass(frozen=True)
class Cluster:
    """The cluster and its regular work."""

    nodes: int = 192
    gpus_per_node: int = 8
    # What the service may use at once (an association's limit), of 1,536.
    service_gpus: int = 800
    # Helios (SC 2021, arXiv:2109.01313): most jobs want one GPU; durations from seconds to days, median
    # minutes, mean about two hours; more submissions by day. Truncated log-normal.
    job_gpus: tuple[int, ...] = (1, 2, 4, 8)
    job_gpus_share: tuple[float, ...] = (0.70, 0.12, 0.10, 0.08)
    job_median: float = 206.0
    job_sigma: float = 2.6
    job_most: float = 2 * DAY
    # The GPUs that regular work would use on average if it never waited.
    regular_gpus: float = 700.0
    job_day: float = 0.4
    # Kokolis et al.: 6.5 node failures in 1,000 node-days (as reported for the larger of two clusters).
    node_failures_per_day: float = 0.0065
    repair: float = 6 * HOUR
    # Slurm's default bf_interval is 30 s; a submission is looked at at once, so half of it on average.
    reserve_after: float = 30 * MINUTE


@dataclass(frozen=True)
class Parameters:
    """One simulation: everything follows from it, the seed included."""

    models: int = 200
    span: float = WEEK
    seed: int = 7
    tick: float = 30.0
    load: Load = Load()
    fleet: Fleet = Fleet()
    cluster: Cluster = Cluster()


FULL = Parameters()
QUICK = Parameters(
    models=40, span=DAY, load=Load(requests_per_week=500_000.0), cluster=Cluster(nodes=80, service_gpus=400)
)
