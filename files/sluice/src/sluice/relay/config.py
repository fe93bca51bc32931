"""`/etc/sluice/relay.json`: the cluster's own limits, for everybody who has the proxy's SSH key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sluice.bodies.costs import DEFAULTS, Bounds
from sluice.config import load
from sluice.contracts.values import ABSOLUTE_PATH, GROUP
from sluice.errors import ConfigError
from sluice.gate.body import COLLECTED
from sluice.logs import LEVELS
from sluice.relay.flow import LUMP


@dataclass(frozen=True)
class RelayConfig:
    """Paths, limits (bytes, counts) and times (seconds) of a relay; `requests_per_second` 0 = no limit."""

    cluster: str
    routing_table: str
    demand_dir: str
    figures: str
    closed_file: str
    max_body: int = 33_554_432
    max_answer: int = 67_108_864
    max_streams: int = 1024
    stream_credit: int = 32_768
    session_credit: int = 67_108_864
    max_buffered: int = 67_108_864
    max_waiting: int = 100
    requests_per_second: float = 1_000
    connect_timeout: float = 5
    first_byte_timeout: float = 300
    first_token_timeout: float = 900
    idle_timeout: float = 120
    total_timeout: float = 3_600
    ping_interval: float = 15
    max_session_age: float = 86_400
    schemas: Bounds = DEFAULTS
    log_level: str = "info"


_PATHS = ("routing_table", "demand_dir", "figures", "closed_file")
_POSITIVE = (
    "max_body",
    "max_answer",
    "max_streams",
    "max_buffered",
    "connect_timeout",
    "first_byte_timeout",
    "first_token_timeout",
    "idle_timeout",
    "total_timeout",
    "ping_interval",
    "max_session_age",
)


def read(path: str) -> RelayConfig:
    """Read and check the file. Raises ConfigError, naming key and file."""
    return check(load(RelayConfig, path), path)


def check(config: RelayConfig, path: str) -> RelayConfig:
    """Return `config` if its values are valid; `path` is for messages. Raises ConfigError."""
    for key in _PATHS:
        _check(path, key, ABSOLUTE_PATH, getattr(config, key))
    _check(path, "cluster", GROUP, config.cluster)
    for key in _POSITIVE:
        _at_least(path, key, getattr(config, key), 0, strictly=True)
    for key in ("max_waiting", "requests_per_second"):
        _at_least(path, key, getattr(config, key), 0)
    # Credit is returned in lumps: a window smaller than a lump would stay closed.
    _at_least(path, "stream_credit", config.stream_credit, LUMP)
    # Bodies that wait for an instance may fill the buffers, but must not use up the session's credit.
    _at_least(path, "session_credit", config.session_credit, max(65_536, config.max_buffered))
    _at_least(path, "max_buffered", config.max_buffered, COLLECTED)
    problem = config.schemas.problem()
    if problem:
        raise ConfigError(f"{path}: schemas.{problem}")
    if config.log_level not in LEVELS:
        raise ConfigError(f"{path}: log_level: must be one of {', '.join(LEVELS)}")
    return config


def _check(path: str, key: str, pattern: re.Pattern[str], value: str) -> None:
    if not pattern.fullmatch(value):
        raise ConfigError(f"{path}: {key}: does not match {pattern.pattern}")


def _at_least(path: str, key: str, value: Any, low: float, *, strictly: bool = False) -> None:
    if value < low or (strictly and value == low):
        raise ConfigError(f"{path}: {key}: must be {'above' if strictly else 'at least'} {low:g}")
