"""Other jobs and other people on the cluster: what they call things, and what lies in a job's folder.

The model of this module runs on the light engine. Jobs with hostile names belong to the scheduler's own
account, as those would that a job plugin renames, or a person with that account submits.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from functools import partial

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


def last_tick(service: Service) -> float:
    """Return when the scheduler last ticked."""
    told = service.shell("login", "sluice status --json")
    return float(told.partition('"last_tick": ')[2].partition(",")[0])


def wait_for_a_tick(service: Service, eventually: Wait) -> None:
    """Wait until a tick has ended after now."""
    before = last_tick(service)
    eventually(lambda: last_tick(service) > before, 120, "the scheduler ticks")


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
    for _ in range(2):
        wait_for_a_tick(service, eventually)
    assert service.ready(model) == [job]
    shown = service.shell("login", "sluice status")
    assert "\x1b" not in shown and "\nticket" not in shown
    service.shell("login", f"sluice models drain {model}")
    eventually(lambda: service.job(job)["JobState"] == "CANCELLED", 120, "it is ended")
    service.shell("login", f"sluice models resume {model}")
    eventually(lambda: service.ready(model) not in ([], [job]), 120, "another is ready")


LAID = ("mkdir", "mkfifo", "ln -s /etc/passwd")


def lay(service: Service, name: str, kind: str) -> str:
    """Lay something in the way of a job's record and output, and kill its front; return the job."""
    (job,) = service.ready(name)
    folder = shlex.quote(service.job(job)["WorkDir"])
    for file in ("record.json", "output"):
        script = f"cd {folder} && rm -rf {file} && {kind} {file}"
        service.shell("login", f"runuser -u sluice -- sh -c {shlex.quote(script)}")
    # Its record is read again once its front does not answer.
    kill_front(service, job)
    return job


def test_what_lies_in_one_jobs_folder_stops_no_other_model(
    service: Service, model: str, eventually: Wait
) -> None:
    with contextlib.ExitStack() as stack:
        names = {
            kind: stack.enter_context(registered(service, "hostile", LIGHT, min=1, slurm=SLURM))
            for kind in LAID
        }
        eventually(lambda: all(service.ready(name) for name in names.values()), 180, "they serve")
        jobs = {name: lay(service, name, kind) for kind, name in names.items()}
        began = float(service.shell("login", "date +%s"))
        for name, job in jobs.items():
            eventually(partial(replaced, service, name, job), 180, "another instance of it is ready")
        assert len(service.ready(model)) == 1
        assert not stream(service, model, 8).problem
        assert began < last_tick(service)


def replaced(service: Service, name: str, job: str) -> bool:
    """Whether another job serves a model."""
    return service.ready(name) not in ([], [job])
