"""Models that a test registers beside the bed's own, made from one of these, and takes away again."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.system.service import Service

FOLDER = "/etc/sluice/models.d"
COMMAND = "sluice models"
LISTED_SECONDS = 60.0
# What `slurm` of an entry is in the script, as the role's template writes it.
OPTIONS = {
    "partition": "partition",
    "time": "time",
    "warn": "signal",
    "cpus": "cpus-per-task",
}


@contextlib.contextmanager
def registered(
    service: Service, name: str, base: str, slurm: Mapping[str, Any], **changes: Any
) -> Iterator[str]:
    """Register a model like `base`, but for what `slurm` and `changes` say; remove it at the end.

    Gives its name, which begins with `name` and was never used before: nothing remembers it.
    """
    name = f"{name}-{secrets.token_hex(3)}"
    entry = json.loads(service.shell("login", f"cat {FOLDER}/{base}.json"))
    entry.update(changes, name=name, slurm={**entry["slurm"], **slurm})
    script = service.shell("login", f"cat {FOLDER}/{base}.sbatch")
    # The name under which the engine serves.
    script = re.sub(rf"(?<![\w.-]){re.escape(base)}(?![\w.-])", name, script)
    # What is not in the script the scheduler says on sbatch's command line.
    for key, value in ((key, value) for key, value in slurm.items() if key in OPTIONS):
        option = f"B:USR1@{value}" if key == "warn" else value
        line = f"#SBATCH --{OPTIONS[key]}={option}"
        script, found = re.subn(rf"^#SBATCH --{OPTIONS[key]}=.*$", line, script, flags=re.MULTILINE)
        assert found == 1, (key, script[:600])
    files = {"entry": json.dumps(entry), "script": script}
    for kind, text in files.items():
        service.shell("login", f"printf %s {shlex.quote(text)} >/root/{name}.{kind}")
    service.shell("login", f"{COMMAND} apply --entry /root/{name}.entry --script /root/{name}.script")
    try:
        wait_listed(service, name)
        yield name
    finally:
        service.shell("login", f"{COMMAND} remove {name}; rm -f /root/{name}.entry /root/{name}.script")


def wait_listed(service: Service, name: str) -> None:
    """Wait until the gateway has heard of a model."""
    deadline = time.monotonic() + LISTED_SECONDS
    while name not in {one["id"] for one in service.request("GET", "/v1/models").json()["data"]}:
        assert time.monotonic() < deadline, f"{name} is not listed\n{service.diagnosis()}"
        time.sleep(0.5)
