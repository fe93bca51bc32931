"""A model whose engine is hostile, as its weights or a bug may turn it; removed at the end."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.system.models import COMMAND, FOLDER, wait_listed
from tests.system.service import LIGHT, Service

PROGRAM = Path(__file__).parents[1] / "fakes" / "hostile_engine.py"
PROFILE = "/home/sluice/.bash_profile"
# What listens on every node of the cluster: sshd, slurmd; and on the login node: slurmctld.
PORTS = ("127.0.0.1:22", "127.0.0.1:6818", "c1:22", "c2:6818", "login:6817", "login:22")


@contextlib.contextmanager
def hostile_model(service: Service) -> Iterator[str]:
    """Register a model whose engine is the hostile one; give its name."""
    name = f"hostile-{secrets.token_hex(3)}"
    folder = f"/shared/{name}"
    service.shell(
        "login", f"mkdir -p {folder} && printf %s {shlex.quote(PROGRAM.read_text())} >{folder}/engine.py"
    )
    entry = json.loads(service.shell("login", f"cat {FOLDER}/{LIGHT}.json"))
    entry.update(name=name, min=1, max=1)
    script = service.shell("login", f"cat {FOLDER}/{LIGHT}.sbatch")
    command = (
        f'/usr/bin/python3 {folder}/engine.py --socket "$socket" --jobs /shared/sluice/jobs --own {folder}'
    )
    serve = f"serve() {{\n    in_box {command} --ports {','.join(PORTS)}\n}}\n"
    script, found = re.subn(r"^serve\(\) \{.*?^\}\n", lambda _: serve, script, flags=re.MULTILINE | re.DOTALL)
    script, ready = re.subn(
        "^ready_line=.*$", "ready_line='hostile engine: ready'", script, flags=re.MULTILINE
    )
    assert (found, ready) == (1, 1), script
    script = script.replace("--read /opt", f"--read {folder}", 1)
    for kind, text in (("entry", json.dumps(entry)), ("script", script)):
        service.shell("login", f"printf %s {shlex.quote(text)} >/root/{name}.{kind}")
    # What Slurm would run for a job that asks for variables by name.
    evil = "export http_proxy=http://evil PYTHONPATH=/evil LD_LIBRARY_PATH=/evil VLLM_EVIL=1 BASH_ENV=/evil"
    for node in ("c1", "c2"):
        service.shell(node, f"mkdir -p /home/sluice && echo {shlex.quote(evil)} >{PROFILE}")
    service.shell("login", f"{COMMAND} apply --entry /root/{name}.entry --script /root/{name}.script")
    try:
        wait_listed(service, name)
        yield name
    finally:
        service.shell("login", f"{COMMAND} remove {name}; rm -rf /root/{name}.* {folder}")
        for node in ("c1", "c2"):
            service.shell(node, f"rm -f {PROFILE}")
