"""What the integration tests share: a login node with a real sshd, jobs with real fronts."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import page.build
from tests.integration import tools
from tests.integration.login import LoginNode, Secured, build_zipapp
from tests.integration.postgres import PostgreSQL, running
from tests.integration.stand import Stand, prepare

# Starts a login node as a test wants it.
MakeNode = Callable[[Secured], LoginNode]

# The modules that take longest, which begin first: at the end no process is left with one of them alone.
LONGEST = (
    "test_validate",
    "test_kills",
    "test_documented_install",
    "test_scheduler",
    "test_database",
    "test_limits",
    "test_clients",
    "test_simulate",
    "test_services",
    "test_accounting",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the modules; a module's tests stay as they stand in it. No test is ended for a busy machine."""
    ranks = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session", autouse=True)
def built_page() -> None:
    """What browsers load of the pages: web does not start without it."""
    page.build.ensure()


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program as it is installed on a cluster."""
    return build_zipapp(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def login_tools() -> None:
    """Install what the machine lacks, and say plainly what cannot be had."""
    assert os.geteuid() == 0, "the integration tests start an sshd: run them as root"
    tools.ensure()


@pytest.fixture(scope="session")
def login(tmp_path_factory: pytest.TempPathFactory, zipapp: Path, login_tools: None) -> Iterator[LoginNode]:
    """Return a login node as the playbook leaves it: drop-in and key options."""
    yield from _running(tmp_path_factory.mktemp("login"), zipapp, Secured(True, True))


@pytest.fixture(scope="session", params=["drop-in", "key-options"])
def half_secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zipapp: Path, login_tools: None
) -> Iterator[LoginNode]:
    """Return a login node that only one of the two confines: each alone must hold."""
    drop_in = request.param == "drop-in"
    yield from _running(tmp_path_factory.mktemp("half"), zipapp, Secured(drop_in, not drop_in))


@pytest.fixture
def make_node(
    tmp_path_factory: pytest.TempPathFactory, zipapp: Path, login_tools: None
) -> Iterator[MakeNode]:
    """Start a login node as a test wants it."""
    with contextlib.ExitStack() as stack:

        def make(secured: Secured) -> LoginNode:
            node = LoginNode(tmp_path_factory.mktemp("site"), zipapp, secured)
            stack.callback(node.stop)
            node.start()
            return node

        yield make


def _running(directory: Path, zipapp: Path, secured: Secured) -> Iterator[LoginNode]:
    node = LoginNode(directory, zipapp, secured)
    try:
        node.start()
        yield node
    finally:
        node.stop()


# Not for the session: other modules count the relays and sessions of the account, and kill them.
@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """Return everything that a user's program meets, before a stub engine."""
    prepare()
    # Not below pytest's own folder: that is closed to the accounts of nginx and of the login node.
    with Stand(Path(tempfile.gettempdir())) as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """Return a real PostgreSQL; `postgres.fresh()` is the URL of an empty database."""
    with running() as server:
        yield server
