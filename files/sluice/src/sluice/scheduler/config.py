"""The scheduler's configuration file, `/etc/sluice/scheduler.json`."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.contracts.models import SLURM_WORD
from sluice.contracts.ports import port_range
from sluice.contracts.values import ABSOLUTE_PATH, GROUP
from sluice.errors import ConfigError
from sluice.logs import LEVELS

PATH_KEYS = (
    "models_dir",
    "jobs_dir",
    "state_file",
    "lock_file",
    "routing_table",
    "demand_dir",
    "figures",
    "zipapp",
    "python",
    "slurm_bin",
)
LAUNCHERS = ("cron", "systemd", "scrontab")
NOT_NEGATIVE_KEYS = (
    "drain_timeout",
    "max_gpus",
    "max_nodes",
    "gpu_hours_per_day",
    "cold_starts_per_hour",
    "min_nice",
    "node_failures",
    "node_exclude",
    "pending_patience",
)
POSITIVE_KEYS = (
    "max_body",
    "max_instances",
    "command_timeout",
    "tick_interval",
    "busy_interval",
    "run_for",
    "lease",
    "probe_timeout",
    "retry_backoff",
    "max_failures",
)


@dataclass(frozen=True)
class SchedulerConfig:
    """The whole file. Times in seconds, `max_body` in bytes, `zipapp` and `python` as compute nodes see them.

    `drain_timeout` is how long a draining instance may go on answering while its model has running requests.
    With an empty `slurm_conf`, Slurm chooses its configuration file.

    Bounds of the service, all models together, 0 for no bound: `max_instances` (never 0), `max_gpus`,
    `max_nodes`, `gpu_hours_per_day` (of allocated GPUs), `cold_starts_per_hour` (starts of a model that has
    no instance). `partitions`: the only ones that jobs may ask for ([]: any). `min_nice`: the lowest nice
    value that jobs may ask for. A node on which `node_failures` starts in a row failed within minutes is
    excluded from submissions for `node_exclude` seconds. A job that waits in Slurm's queue for something
    that may never happen (see `reasons`) is cancelled after `pending_patience` seconds (0: never).
    """

    cluster: str
    models_dir: str
    jobs_dir: str
    state_file: str
    lock_file: str
    routing_table: str
    demand_dir: str
    figures: str
    zipapp: str
    python: str
    max_instances: int
    ports: str = "20000-20999"
    max_body: int = 8_388_608
    slurm_bin: str = "/usr/bin"
    slurm_conf: str = ""
    command_timeout: float = 20.0
    tick_interval: float = 30.0
    busy_interval: float = 2.0
    run_for: float = 58.0
    lease: float = 90.0
    probe_timeout: float = 5.0
    drain_timeout: float = 600.0
    retry_backoff: float = 10.0
    max_failures: int = 5
    max_gpus: int = 0
    max_nodes: int = 0
    gpu_hours_per_day: float = 0.0
    cold_starts_per_hour: int = 120
    partitions: tuple[str, ...] = ()
    min_nice: int = 0
    node_failures: int = 2
    node_exclude: float = 3600.0
    pending_patience: float = 3600.0
    launcher: str = "cron"
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not GROUP.fullmatch(self.cluster):
            raise ConfigError(f"cluster: {self.cluster!r} does not match {GROUP.pattern}")
        self._check_paths()
        for key in POSITIVE_KEYS:
            if getattr(self, key) <= 0:
                raise ConfigError(f"{key}: must be above 0")
        for key in NOT_NEGATIVE_KEYS:
            if getattr(self, key) < 0:
                raise ConfigError(f"{key}: must not be negative")
        if not all(SLURM_WORD.fullmatch(name) and name for name in self.partitions):
            raise ConfigError("partitions: must be names of partitions")
        if self.launcher not in LAUNCHERS:
            raise ConfigError("launcher: must be one of " + ", ".join(LAUNCHERS))
        if self.log_level not in LEVELS:
            raise ConfigError("log_level: must be one of " + ", ".join(LEVELS))
        self.port_range()

    def _check_paths(self) -> None:
        for key in PATH_KEYS:
            value = getattr(self, key)
            if not ABSOLUTE_PATH.fullmatch(value):
                raise ConfigError(f"{key}: {value!r} is not an absolute path of [A-Za-z0-9._+@/-]")
        if self.slurm_conf and not ABSOLUTE_PATH.fullmatch(self.slurm_conf):
            raise ConfigError(f"slurm_conf: {self.slurm_conf!r} is neither empty nor an absolute path")

    def port_range(self) -> range:
        """Return the ports that a front may listen on."""
        try:
            return port_range(self.ports)
        except ValueError as error:
            raise ConfigError(f"ports: {error}") from None
