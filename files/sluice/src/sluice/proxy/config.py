"""The proxy's configuration file, `/etc/sluice/proxy.json`."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.contracts.values import GROUP, HOST
from sluice.errors import ConfigError
from sluice.logs import LEVELS
from sluice.proxy.http.cors import ANY, ORIGIN

MAX_SECONDS = 86_400.0
# The longest times in seconds for which a revoked key works after its last check, and for which a known key
# works while the authority cannot be reached.
MAX_TTL = 5.0
MAX_STALE = 900.0
MAX_SESSIONS = 16
_TIMES = ("connect_timeout", "ping_interval", "ping_timeout", "models_interval", "backoff_max", "session_age")
# Who shares an engine's cache of prompts: requests of one user, of one project, or all.
CACHE_SALTS = ("user", "project", "none")
_PATIENCE = (
    "principal_ttl",
    "principal_stale",
    "usage_batch",
    "queue_wait",
    "quiet_wait",
    "request_timeout",
    "comment_interval",
)


@dataclass(frozen=True)
class ClusterConfig:
    """One login node: its address, the number of SSH sessions to keep with its relays, and times in seconds.

    Several entries with the same `name` are login nodes of the same cluster, in order of preference. A
    session is replaced by a new one before it is `session_age` old.
    """

    name: str
    host: str
    port: int
    user: str
    key_file: str
    known_hosts: str
    sessions: int = 2
    session_age: float = 21_600.0
    connect_timeout: float = 10.0
    ping_interval: float = 15.0
    ping_timeout: float = 10.0
    models_interval: float = 2.0
    backoff_max: float = 30.0


@dataclass(frozen=True)
class ProxyConfig:
    """The whole file; times in seconds, `max_body` and `max_buffered` (all bodies together) in bytes.

    `spool`: the folder for usage records that the authority has not stored yet.
    `queue_length`: how many places requests may wait for, per model; `queue_per_user`: the same for one user;
    `queue_wait`: how long each may wait. A waiting stream is told so after `quiet_wait`. A request takes at
    most `request_timeout` from its arrival to the end of its answer, with all attempts.
    `comment_interval`: the time between comment lines in a stream, from an instance's acceptance to the first
    token.
    `cors_origins`: the sites whose pages may use the API from a browser, or only "*" for all.
    `reserve_output`: tokens reserved for an answer if the request does not bound its length.
    `guesses_per_minute`: how many unknown keys without this site's mark one address may present.
    `cache_salt` (user, project, none): whose prompts share an engine's cache.
    """

    socket: str
    authority_socket: str
    clusters: tuple[ClusterConfig, ...]
    spool: str = "/var/lib/sluice-proxy/usage"
    status_port: int = 9464
    max_body: int = 32 * 1024 * 1024
    max_buffered: int = 256 * 1024 * 1024
    log_level: str = "info"
    principal_ttl: float = 5.0
    principal_stale: float = 900.0
    usage_batch: float = 1.0
    queue_length: int = 1000
    queue_per_user: int = 200
    queue_wait: float = 300.0
    quiet_wait: float = 5.0
    request_timeout: float = 3600.0
    comment_interval: float = 15.0
    cors_origins: tuple[str, ...] = ()
    reserve_output: int = 2048
    guesses_per_minute: int = 30
    cache_salt: str = "user"


def check(config: ProxyConfig, source: str) -> ProxyConfig:
    """Return `config` if its values are valid; `source` is the file's name, for messages.

    Raises ConfigError that names key and file.
    """
    if not config.clusters:
        raise ConfigError(f"{source}: clusters: is empty; name at least one cluster")
    _require(0 < config.status_port < 65536, source, "status_port", "must be from 1 to 65535")
    _require(1024 <= config.max_body <= 1 << 30, source, "max_body", "must be from 1 KiB to 1 GiB")
    _require(
        config.max_buffered >= 8 * config.max_body,
        source,
        "max_buffered",
        "must be at least eight times max_body",
    )
    _require(config.log_level in LEVELS, source, "log_level", f"must be one of {', '.join(LEVELS)}")
    _require(1 <= config.queue_length <= 100_000, source, "queue_length", "must be from 1 to 100000")
    _require(
        1 <= config.queue_per_user <= config.queue_length,
        source,
        "queue_per_user",
        "must be from 1 to queue_length",
    )
    _require(1 <= config.reserve_output <= 1 << 24, source, "reserve_output", "must be from 1 to 16777216")
    _require(
        1 <= config.guesses_per_minute <= 100_000, source, "guesses_per_minute", "must be from 1 to 100000"
    )
    _require(
        config.cache_salt in CACHE_SALTS, source, "cache_salt", f"must be one of {', '.join(CACHE_SALTS)}"
    )
    for key in _PATIENCE:
        _seconds(getattr(config, key), source, key)
    _require(config.principal_ttl <= MAX_TTL, source, "principal_ttl", f"must be at most {MAX_TTL:.0f} s")
    _require(
        config.principal_stale <= MAX_STALE, source, "principal_stale", f"must be at most {MAX_STALE:.0f}"
    )
    _check_origins(config.cors_origins, source)
    for index, cluster in enumerate(config.clusters):
        _check_cluster(cluster, source, f"clusters[{index}]")
    return config


def _check_origins(origins: tuple[str, ...], source: str) -> None:
    for index, origin in enumerate(origins):
        _require(
            bool(ORIGIN.fullmatch(origin)) or (origin == ANY and len(origins) == 1),
            source,
            f"cors_origins[{index}]",
            "must be an origin as browsers write it, such as https://notes.example.org, without a path and "
            "without the scheme's own port; or the list must be only *",
        )


def _check_cluster(cluster: ClusterConfig, source: str, where: str) -> None:
    _require(bool(GROUP.fullmatch(cluster.name)), source, f"{where}.name", f"must match {GROUP.pattern}")
    _require(bool(HOST.fullmatch(cluster.host)), source, f"{where}.host", "must be a host name or address")
    _require(0 < cluster.port < 65536, source, f"{where}.port", "must be from 1 to 65535")
    _require(
        1 <= cluster.sessions <= MAX_SESSIONS,
        source,
        f"{where}.sessions",
        f"must be from 1 to {MAX_SESSIONS}",
    )
    for key in _TIMES:
        _seconds(getattr(cluster, key), source, f"{where}.{key}")


def _seconds(value: float, source: str, key: str) -> None:
    _require(
        0 < value <= MAX_SECONDS, source, key, f"must be more than 0 and at most {MAX_SECONDS:.0f} seconds"
    )


def _require(true: bool, source: str, key: str, problem: str) -> None:
    if not true:
        raise ConfigError(f"{source}: {key}: {problem}")
