"""A hostile engine as a job of the real Slurm: it gets nothing, serves, and leaves nothing behind."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.hostile import hostile_model
from tests.system.models import COMMAND
from tests.system.service import MODEL, Service

PROMPT = "a prompt that nobody else may see"


@pytest.fixture(scope="module")
def hostile(service: Service) -> Iterator[str]:
    """Give the name of a model whose engine is hostile."""
    with hostile_model(service) as name:
        yield name


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
    assert (found["level"], found["message"]) == ("ok", "a job's node can create a box")
