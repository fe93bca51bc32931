"""One bed for the whole tier: made fresh by the first module, used by the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from demo.bed.bed import Bed
from demo.bed.progress import Progress
from demo.bed.topology import HOST_NAMES
from demo.deployment import Deployment
from tests.run import BED_NAME, BED_STATE, BED_SUBNET
from tests.system.service import Service

# What a running host changes by itself, whatever is installed on it.
_VOLATILE = (
    *("/proc", "/sys", "/run", "/dev", "/tmp", "/var/tmp", "/var/log", "/var/cache", "/var/lib/systemd"),
    *("/var/lib/apt/lists", "/root/.ansible", "/root/.cache", "/shared"),
    # slurmctld writes its own state down from time to time.
    "/var/lib/slurm",
)


@dataclass(frozen=True)
class Snapshot:
    """What is on a host: paths, packages with versions, accounts, enabled units."""

    files: frozenset[str]
    packages: str
    accounts: str
    units: str


@dataclass(frozen=True)
class FreshRun:
    """What the playbook did to hosts that had never seen it."""

    before: dict[str, Snapshot]
    check_status: int
    check_output: str
    after: dict[str, Snapshot]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is of the system tier, and one step may take minutes."""
    for item in items:
        item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def bed() -> Bed:
    """The test bed's handle; `fresh_run` or `deployment` brings it up, the runner takes it down."""
    return Bed(BED_NAME, BED_SUBNET, Path(BED_STATE), report=Progress())


@pytest.fixture(scope="session")
def fresh_run(bed: Bed) -> FreshRun:
    """Fresh hosts, and `site.yml --check --diff` on them."""
    bed.down()
    deployment = Deployment(bed, Progress())
    deployment.env_file.unlink(missing_ok=True)
    deployment.prepare()
    before = snapshots(bed)
    checked = deployment.play("playbooks/site.yml", "--check", "--diff", check=False)
    return FreshRun(before, checked.returncode, checked.stdout, snapshots(bed))


@pytest.fixture(scope="session")
def deployment(bed: Bed, request: pytest.FixtureRequest) -> Deployment:
    """Sluice, installed. A module run on its own uses the bed that an earlier run left up."""
    found = Deployment(bed, Progress())
    if not (found.env_file.exists() and all(host.up for host in bed.status())):
        request.getfixturevalue("fresh_run")
        found.install()
        found.write_env()
    return found


@pytest.fixture(scope="session")
def service(deployment: Deployment) -> Service:
    """The running service, as its tests see it."""
    return Service(deployment)


@pytest.fixture
def steady(service: Service) -> Iterator[Service]:
    """The service, answering before the test and again after it, with one job a model at most."""
    service.wait_answering(180)
    yield service
    service.wait_answering(240)


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[openai.OpenAI]:
    """The public client, as anybody would make it."""
    with service.openai() as made:
        yield made


def snapshots(bed: Bed) -> dict[str, Snapshot]:
    """Return what is on every host."""
    return {name: _snapshot(bed, name) for name in HOST_NAMES}


def _snapshot(bed: Bed, host: str) -> Snapshot:
    prune = " -o ".join(f"-path {path}" for path in _VOLATILE)

    def output(script: str) -> str:
        return bed.run(host, ["sh", "-c", script], check=True).stdout

    return Snapshot(
        files=frozenset(output(f"find / \\( {prune} \\) -prune -o -print").splitlines()),
        packages=output("dpkg-query --show"),
        accounts=output("cat /etc/passwd /etc/group"),
        units=output(
            "systemctl list-unit-files --no-legend --no-pager --type=service,socket,timer,path,mount"
        ),
    )


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], object], float, str], None]:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.5)

    return wait
