"""An engine's environment: what the job's script set, without the job's own variables. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables for the front, from the scheduler and Slurm; and variables of the shell.
OWN = ("SLUICE_", "SLURM_", "SLURMD_", "SBATCH_", "SRUN_")
SHELLS = frozenset(("PWD", "OLDPWD", "SHLVL", "_"))


def read(data: bytes) -> dict[str, str]:
    """Read variables of the form NAME=value, each ended by a NUL byte. Raises ValueError."""
    found = {}
    for item in data.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        name, equals, value = item.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is not a variable")
        found[name] = value
    return found


def dump(environment: Mapping[str, str]) -> bytes:
    """Return the variables in the form that `read` reads."""
    text = "".join(f"{name}={value}\0" for name, value in environment.items())
    return text.encode("utf-8", "surrogateescape")


def of_engine(script: Mapping[str, str], account: str) -> dict[str, str]:
    """Return the engine's environment, given the script's. Libraries need the `account` in it."""
    kept = {name: value for name, value in script.items() if not name.startswith(OWN) and name not in SHELLS}
    return {**kept, "USER": account, "LOGNAME": account}
