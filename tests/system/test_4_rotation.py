"""The gateway's SSH key is replaced under load, with interruptions; the old one opens nothing any more."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from demo.deployment import ROOT, Deployment
from tests.system.load import Load
from tests.system.service import MODEL, Service
from tests.trials import SOAK

ROTATE = "playbooks/ops/rotate_ssh_key.yml"
STREAMS = 50
TRY = "runuser -u sluice-proxy -- /opt/sluice/venv/bin/sluice proxy --try"


def current_key(service: Service) -> str:
    """Return the gateway's public key as the relay's sshd admits it."""
    return service.shell("gw", "cut -d' ' -f2 /etc/sluice/ssh/id_ed25519.pub").strip()


def admitted(service: Service) -> list[str]:
    """Return the keys that the login node admits."""
    return re.findall(r"ssh-ed25519 (\S+)", service.shell("login", "cat /etc/ssh/sluice/authorized_keys"))


@contextmanager
def asked(service: Service) -> Iterator[list[str]]:
    """Hold STREAMS streams open and ask a question each second; give the problems with the questions."""
    load = Load(service, MODEL, STREAMS, tokens=16)
    problems: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(1.0):
            answer = service.chat("What is the capital of France?", within=120, max_tokens=1)
            if answer.status != 200:
                problems.append(f"{answer.status}: {answer.body[:200]!r}")

    asking = threading.Thread(target=ask, daemon=True)
    load.start()
    asking.start()
    try:
        yield problems
    finally:
        done.set()
        load.stop()
        asking.join(130)
    print(load.figures())
    assert load.outcomes
    assert not load.problems()


def interrupted(deployment: Deployment, tasks: int) -> None:
    """Run the playbook and kill it as its task number `tasks` begins."""
    argv = [deployment._tool("ansible-playbook"), "-i", "inventories/demo", ROTATE]
    with subprocess.Popen(
        argv, cwd=ROOT, env=deployment.environment(), stdout=subprocess.PIPE, text=True
    ) as playing:
        begun = 0
        for line in playing.stdout or ():
            begun += line.startswith("TASK [")
            if begun == tasks:
                break
        assert begun == tasks, f"the playbook has only {begun} tasks"
        playing.kill()


def test_a_rotation_cuts_no_stream_and_the_old_key_opens_nothing(
    steady: Service, deployment: Deployment
) -> None:
    old = current_key(steady)
    steady.shell("gw", "install -o sluice-proxy -m 0400 /etc/sluice/ssh/id_ed25519 /run/stolen")
    try:
        with asked(steady) as problems:
            deployment.play(ROTATE)
        assert problems == []
        assert current_key(steady) != old
        assert admitted(steady) == [current_key(steady)]
        assert "login (cluster demo): " in steady.shell("gw", TRY)
        said = steady.shell("gw", f"{TRY} --key /run/stolen 2>&1 || :")
        assert "login does not accept the key in /run/stolen" in said
    finally:
        steady.shell("gw", "rm /run/stolen")


# While the next key is made, before it is admitted, and before the new one is alone.
@pytest.mark.parametrize("tasks", [3, 10, 14] if SOAK else [10])
def test_an_interrupted_rotation_locks_nobody_out_and_is_finished_by_the_next(
    tasks: int, steady: Service, deployment: Deployment
) -> None:
    interrupted(deployment, tasks)
    assert "login (cluster demo): " in steady.shell("gw", TRY)
    between = current_key(steady)
    assert between in admitted(steady)

    deployment.play(ROTATE)

    assert admitted(steady) == [current_key(steady)]
    assert "login (cluster demo): " in steady.shell("gw", TRY)
    assert steady.shell("gw", "ls -A /etc/sluice/ssh").split() == [
        "id_ed25519",
        "id_ed25519.pub",
        "known_hosts",
    ]


def test_the_site_playbook_in_the_middle_of_a_rotation_keeps_both_keys(
    steady: Service, deployment: Deployment
) -> None:
    interrupted(deployment, 15)
    kept = steady.shell("gw", "cat /etc/sluice/ssh/*.pub | cut -d' ' -f2").split()
    deployment.play("playbooks/login.yml", "--tags", "relay")
    assert sorted(admitted(steady)) == sorted(kept)
    deployment.play(ROTATE)
    assert admitted(steady) == [current_key(steady)]
