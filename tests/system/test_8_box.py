"""A hostile engine as a job of the real Slurm: it gets nothing, serves, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.models import COMMAND, FOLDER, wait_listed
from tests.system.service import LIGHT, MODEL, Service

PROGRAM = Path(__file__).parents[1] / "fakes" / "hostile_engine.py"
PROFILE = "/home/sluice/.bash_profile"
PROMPT = "a prompt that nobody else may see"
# What listens on every node of the cluster: sshd, slurmd; and on the login node: slurmctld.
PORTS = ("127.0.0.1:22", "127.0.0.1:6818", "c1:22", "c2:6818", "login:6817", "login:22")


@pytest.fixture(scope="module")
def hostile(service: Service) -> Iterator[str]:
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


def answer(service: Service, name: str) -> dict[str, str]:
    """Ask the hostile engine; return what it says that it got."""
    deadline = time.monotonic() + 120
    while (said := service.chat(PROMPT, name)).status != 200:
        assert time.monotonic() < deadline, service.try_shell("login", f"{COMMAND} show {name}")
        time.sleep(1)
    found: dict[str, str] = json.loads(said.json()["choices"][0]["message"]["content"])
    return found


def left_behind(service: Service, node: str) -> str:
    """Return the files of a node's memory and temporary folders that hold the prompt."""
    return service.shell(
        node, f"grep -rlaF {shlex.quote(PROMPT)} /dev/shm /tmp /var/tmp /run 2>/dev/null; true"
    )


def test_a_hostile_engine_gets_nothing_and_serves(service: Service, hostile: str) -> None:
    before = service.shell("login", "squeue -h -a -t all -o %i").split()
    assert answer(service, hostile) == {}
    after = service.shell("login", "squeue -h -a -o '%i %j'").splitlines()
    assert [line for line in after if line.split()[0] not in before and "sluice:" not in line] == []


def test_a_hostile_engine_that_is_killed_leaves_no_prompt_on_its_node(
    service: Service, hostile: str, eventually: Callable[[Callable[[], object], float, str], None]
) -> None:
    answer(service, hostile)
    (job,) = service.ready(hostile)
    node = service.node_of_job(job)
    assert service.kill9(node, f"{hostile}/engine.py") > 0
    eventually(lambda: job not in service.live_jobs(hostile), 60, "the job is over")
    assert left_behind(service, node) == ""


# Processes of a node in another process namespace than its own: number, name, and what they share with it.
BOXED = """
for one in /proc/[0-9]*; do
    if [ "$(readlink $one/ns/pid)" != "$(readlink /proc/1/ns/pid)" ]; then
        echo "${one#/proc/} $(tr ' ' _ <$one/comm)" $(for kind in mnt net ipc uts user; do
            if [ "$(readlink $one/ns/$kind)" = "$(readlink /proc/1/ns/$kind)" ]; then echo $kind; fi
        done) $(tr '\\0' '\\n' <$one/environ | grep -oE '^(SLUICE_|SLURM|http)[^=]*')
    fi
done 2>/dev/null; true
"""


def test_a_real_engine_runs_in_a_box_too(service: Service) -> None:
    service.wait_answering(180)
    (job, *_) = service.ready(MODEL)
    node = service.node_of_job(job)
    boxed = [line.split() for line in service.shell(node, BOXED).splitlines()]
    engines = [words for words in boxed if words[1].startswith("VLLM")]
    assert engines, boxed
    assert [words for words in boxed if len(words) > 2] == []
    seen = service.shell(
        node, f"nsenter -t {engines[0][0]} -m ls /home /root /run/munge /shared/sluice/jobs 2>&1; true"
    )
    assert seen.count("No such file or directory") == 4, seen


def test_doctor_tells_that_a_node_can_make_a_box(service: Service) -> None:
    told = json.loads(service.try_shell("login", "sluice doctor --json --with-job", timeout=180))
    (found,) = [one for one in told["findings"] if one["check"] == "box"]
    assert (found["level"], found["message"]) == ("ok", "a job's node can make one")
