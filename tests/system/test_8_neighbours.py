"""Other jobs and other people on the cluster: what they call things, and what lies in a job's folder.

The model of this module runs on the light engine. Jobs with hostile names belong to the scheduler's own
account, as those would that a job plugin renames, or a person with that account submits.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.load import stream
from tests.system.models import registered
from tests.system.service import LIGHT, Service

Wait = Callable[[Callable[[], object], float, str], None]

SLURM = {"partition": "normal", "time": 60}
TEXTS = {
    "a line end": "moved by ops\nticket 12",
    "a tab and bars": "a\tb|c|d|e|f|g|h",
    "a line of squeue": "x\n1|CANCELLED|N/A|N/A|N/A||None|x|sluice:tiny-00000001",
    "an override of the direction": "\u202egnp\u2066",
    "colours": "\x1b[31m\x1b[2J",
    "a thousand letters": "x" * 1000,
}
# Longer than the wait between two ticks at rest.
SOME_TICKS = 75.0


def kill_front(service: Service, job: str) -> None:
    """Kill the front of one job, and of no other on its node."""
    known = f"tr '\\0' '\\n' </proc/$pid/environ | grep -qx SLURM_JOB_ID={job}"
    script = (
        f"for pid in $(pgrep -f '[s]luice.pyz front'); do {known} && kill -9 $pid && echo killed; done; true"
    )
    assert "killed" in service.shell(service.node_of_job(job), script)


def hostile_jobs(service: Service) -> list[str]:
    """Submit a job of the scheduler's account for each text, held: it takes no room; return their ids."""
    found = []
    for text in TEXTS.values():
        named = f"--job-name={shlex.quote(text)} --comment={shlex.quote(text)}"
        asked = "--parsable --hold --partition=normal --mem=10 --time=30 --output=/dev/null --chdir=/tmp"
        script = f"cd /tmp && runuser -u sluice -- sbatch {asked} {named} --wrap='sleep 900'"
        found.append(service.shell("login", script).strip())
    return found


@pytest.fixture
def neighbours(service: Service) -> Iterator[list[str]]:
    """Jobs whose names and comments are hostile, for as long as the test lasts."""
    found = hostile_jobs(service)
    try:
        yield found
    finally:
        service.shell("login", f"scancel {' '.join(found)}")


@pytest.fixture(scope="module")
def model(service: Service) -> Iterator[str]:
    """A model that is always up."""
    with registered(service, "neighbour", LIGHT, min=1, slurm=SLURM) as name:
        assert not stream(service, name, 8).problem
        yield name


def test_names_of_other_jobs_hide_nothing_from_the_scheduler(
    service: Service, model: str, neighbours: list[str], eventually: Wait
) -> None:
    (job,) = service.ready(model)
    # It sees a job end, and starts and follows another.
    service.shell("login", f"scancel {job}")
    eventually(lambda: service.ready(model) not in ([], [job]), 120, "a successor is ready")
    assert not stream(service, model, 8).problem
    assert '"squeue_failing": 0' in service.shell("login", "sluice status --json")
    states = service.shell("login", f"squeue --noheader --jobs={','.join(neighbours)} --format=%T").split()
    assert states == ["PENDING"] * len(neighbours)


def test_a_job_that_was_renamed_is_followed_and_ended_by_its_id(
    service: Service, model: str, eventually: Wait
) -> None:
    (job,) = service.ready(model)
    text = shlex.quote(TEXTS["a line end"])
    service.shell("login", f"scontrol update jobid={job} name={text} comment={text}")
    time.sleep(SOME_TICKS)
    assert service.ready(model) == [job]
    shown = service.shell("login", "sluice status")
    assert "\x1b" not in shown and "\nticket" not in shown
    service.shell("login", f"sluice models drain {model}")
    eventually(lambda: service.job(job)["JobState"] == "CANCELLED", 120, "it is ended")
    service.shell("login", f"sluice models resume {model}")
    eventually(lambda: service.ready(model) not in ([], [job]), 120, "another is ready")


@pytest.mark.parametrize("lay", ["mkdir", "mkfifo", "ln -s /etc/passwd"])
def test_what_lies_in_one_jobs_folder_stops_no_other_model(
    service: Service, model: str, lay: str, eventually: Wait
) -> None:
    with registered(service, "hostile", LIGHT, min=1, slurm=SLURM) as name:
        assert not stream(service, name, 8).problem
        (job,) = service.ready(name)
        folder = shlex.quote(service.job(job)["WorkDir"])
        for file in ("record.json", "output"):
            script = f"cd {folder} && rm -rf {file} && {lay} {file}"
            service.shell("login", f"runuser -u sluice -- sh -c {shlex.quote(script)}")
        # Its record is read again once its front does not answer.
        kill_front(service, job)
        began = float(service.shell("login", "date +%s"))
        eventually(lambda: service.ready(name) not in ([], [job]), 180, "another instance of it is ready")
        assert len(service.ready(model)) == 1
        assert not stream(service, model, 8).problem
        told = service.shell("login", "sluice status --json")
        assert began < float(told.partition('"last_tick": ')[2].partition(",")[0])
