"""The front's settings: arguments from the sbatch script, environment variables from the scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sluice.contracts.ports import PORTS, port_range
from sluice.contracts.values import HOST, INSTANCE_ID, JOB_ID, NONCE
from sluice.errors import ConfigError

COUNT = re.compile(r"[1-9][0-9]{0,11}")
TCP_ENGINE = re.compile(r"tcp:127\.0\.0\.1:([0-9]{1,5})(?:@(/.+))?")
# After this many seconds without a byte for any request, the front makes a trial.
TRIAL_AFTER = 60.0
HEALTH_PATH = re.compile(r"(?:/[A-Za-z0-9._-]+)+")


@dataclass(frozen=True)
class EngineAddress:
    """Where the engine listens: the path of a unix socket, or a TCP port on loopback (then `path` is "").

    If the port is on the loopback of the engine's box, `door` is the path of the unix socket through which
    the box passes connections to that port.
    """

    path: str
    port: int = 0
    door: str = ""

    @classmethod
    def parse(cls, text: str) -> EngineAddress:
        """Read `--engine-socket`: an absolute path, or `tcp:127.0.0.1:PORT[@DOOR]`. Raises ConfigError."""
        loopback = TCP_ENGINE.fullmatch(text)
        if loopback:
            return cls("", int(loopback[1]), loopback[2] or "")
        if not text.startswith("/"):
            raise ConfigError(f"--engine-socket: {text!r} is neither an absolute path nor tcp:127.0.0.1:PORT")
        return cls(text)


@dataclass(frozen=True)
class FrontConfig:
    """The settings of one front. `max_body` is in bytes; `ports` is the site's range, both ends included.

    `trial_after`: after this many seconds without output from the engine, the front makes a trial.
    """

    engine: EngineAddress
    health_path: str
    private_dir: Path
    job_dir: Path
    instance: str
    nonce: str
    job_id: str
    host: str
    ports: range
    concurrency: int
    max_body: int
    trial_after: float = TRIAL_AFTER

    @property
    def model(self) -> str:
        """The name of the model: the instance's name without the nonce."""
        return self.instance[: -len(self.nonce) - 1]

    @classmethod
    def read(
        cls,
        engine: str,
        health_path: str,
        private_dir: str,
        environment: Mapping[str, str],
        trial_after: float = TRIAL_AFTER,
    ) -> FrontConfig:
        """Build from arguments and environment. Raises ConfigError that names the argument or variable."""
        if not HEALTH_PATH.fullmatch(health_path):
            raise ConfigError(f"--engine-health: {health_path!r} is not a plain path such as /health")
        return cls(
            engine=EngineAddress.parse(engine),
            health_path=health_path,
            private_dir=Path(private_dir),
            job_dir=Path(_variable(environment, "SLUICE_JOB_DIR", re.compile(r"/.+"))),
            instance=_variable(environment, "SLUICE_INSTANCE", INSTANCE_ID),
            nonce=_variable(environment, "SLUICE_NONCE", NONCE),
            job_id=_variable(environment, "SLURM_JOB_ID", JOB_ID),
            host=_variable(environment, "SLURMD_NODENAME", HOST),
            ports=_ports(_variable(environment, "SLUICE_PORTS", PORTS)),
            concurrency=int(_variable(environment, "SLUICE_CONCURRENCY", COUNT)),
            max_body=int(_variable(environment, "SLUICE_MAX_BODY", COUNT)),
            trial_after=trial_after,
        )


def _variable(environment: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = environment.get(name)
    if value is None:
        raise ConfigError(f"{name}: is not set; the scheduler and Slurm set it for each job")
    if not pattern.fullmatch(value):
        raise ConfigError(f"{name}: does not match {pattern.pattern}")
    return value


def _ports(text: str) -> range:
    try:
        return port_range(text)
    except ValueError as error:
        raise ConfigError(f"SLUICE_PORTS: {error}") from None
