"""A full disk, and a real PostgreSQL that is stopped, frozen, behind a hole, locked, read-only or crowded."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from sluice.errors import ConfigError
from sluice.web import app as web_app
from sluice.web import authority as authority_app
from sluice.web.database import engines, schema, timeouts
from sluice.web.database.tables import Database
from tests.felt import Stopwatch
from tests.integration.postgres import PostgreSQL, running
from tests.unit.web.database.test_storage_down import SECONDS, long_unseen, says_so, timed
from tests.unit.web.visitor import TOKEN, get, post, settings_of_a_site, sign_in

pytestmark = pytest.mark.integration

ASK = {"version": 1, "credential": "a" * 64}


class Services:
    """Web with somebody signed in, and the authority, on one database."""

    def __init__(self, folder: Path, url: str) -> None:
        database = Database(url)
        database.create()
        database.close()
        settings = settings_of_a_site(folder, url)
        self.app: Flask = web_app.create_app(settings)
        self.authority: FlaskClient = authority_app.create_app(settings).test_client()
        self.database: Database = self.app.extensions["sluice"].database
        self.client: FlaskClient = self.app.test_client()
        sign_in(self.client, self.database)
        assert get(self.client, "/keys").status_code == 200
        assert self.authority.post("/v1/principal", json=ASK).status_code == 404

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
        self.authority.application.extensions["sluice"].database.close()

    def nothing_works_but_all_say_so(self) -> None:
        """Ask for pages, forms and a principal."""
        for path in ("/", "/keys", "/usage", "/auth/account"):
            assert says_so(timed(lambda path=path: get(self.client, path))), path  # type: ignore[misc]
        assert says_so(timed(lambda: post(self.client, "/keys", TOKEN, name="a")))
        assert timed(lambda: self.authority.post("/v1/principal", json=ASK)).status_code == 503

    def pages_go_on_and_forms_say_so(self) -> None:
        """Ask for pages that only read, though their use is to be noted, and for one that writes."""
        for path in ("/", "/keys", "/usage", "/auth/account"):
            assert timed(lambda path=path: get(self.client, path)).status_code == 200  # type: ignore[misc]
        assert says_so(timed(lambda: post(self.client, "/keys", TOKEN, name="a")))
        assert timed(lambda: self.authority.post("/v1/principal", json=ASK)).status_code == 404

    def all_works(self) -> None:
        """Wait until nobody thinks the server away any more, then ask."""
        end = time.monotonic() + 60
        while get(self.client, "/keys").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert post(self.client, "/keys", TOKEN, name="a").status_code == 303


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    """A PostgreSQL of this test's own, to be broken."""
    with running() as server:
        yield server


@contextmanager
def services(folder: Path, url: str) -> Iterator[Services]:
    """Run both on that database."""
    found = Services(folder, url)
    try:
        yield found
    finally:
        found.close()


def processes(server: PostgreSQL) -> list[int]:
    """Return the server's process and its children."""
    assert server._process is not None
    pid = server._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


@contextmanager
def frozen(server: PostgreSQL) -> Iterator[None]:
    """Stop all of the server's processes where they are: the kernel still takes what is sent to them."""
    stopped = processes(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_postgresql_stopped_and_started_again(tmp_path: Path, server: PostgreSQL) -> None:
    with services(tmp_path, server.fresh()) as found:
        server.stop()
        found.nothing_works_but_all_say_so()
        server.start()
        found.all_works()


def test_postgresql_frozen_and_thawed(tmp_path: Path, server: PostgreSQL) -> None:
    with services(tmp_path, server.fresh()) as found:
        with frozen(server):
            found.nothing_works_but_all_say_so()
        found.all_works()


def test_a_table_that_somebody_holds_locked(tmp_path: Path, postgres: PostgreSQL) -> None:
    url = postgres.fresh()
    with services(tmp_path, url) as found, psycopg.connect(plain(url)) as other:
        other.execute('LOCK TABLE "user", api_key, signed_in_browser IN ACCESS EXCLUSIVE MODE')
        found.nothing_works_but_all_say_so()
        other.rollback()
        found.all_works()


def test_a_table_that_somebody_holds_locked_for_writers(tmp_path: Path, postgres: PostgreSQL) -> None:
    url = postgres.fresh()
    with services(tmp_path, url) as found, psycopg.connect(plain(url)) as other:
        long_unseen(found.database)
        other.execute('LOCK TABLE "user", api_key, signed_in_browser IN EXCLUSIVE MODE')
        found.pages_go_on_and_forms_say_so()
        other.rollback()
        found.all_works()


def test_a_postgresql_that_only_reads(tmp_path: Path, postgres: PostgreSQL) -> None:
    """A standby, or a server whose administrator made it so while its disk is full."""
    url = postgres.fresh()
    with services(tmp_path, url) as found, psycopg.connect(plain(url), autocommit=True) as other:
        long_unseen(found.database)
        name = make_url(url).database
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        found.close()
        found.pages_go_on_and_forms_say_so()


def test_a_postgresql_that_takes_no_more_connections(tmp_path: Path, server: PostgreSQL) -> None:
    url = server.fresh()
    with services(tmp_path, url) as found:
        found.close()
        others: list[psycopg.Connection] = []
        with pytest.raises(psycopg.OperationalError):
            for _ in range(200):
                others.append(psycopg.connect(plain(url)))
        found.nothing_works_but_all_say_so()
        for other in others:
            other.close()
        found.all_works()


@contextmanager
def hole() -> Iterator[int]:
    """Return a port of this machine that takes no connection and refuses none: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


def test_a_server_behind_a_hole_and_one_whose_name_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hole() as port:
        address = f"postgresql+psycopg://sluice:hunter2@127.0.0.1:{port}/sluice"
        database = Database(address, serving=True)
        for most in (SECONDS, 1.0):
            with (
                Stopwatch() as felt,
                timeouts.at_most(timeouts.REQUEST_SECONDS),
                pytest.raises(OperationalError),
                database.read() as session,
            ):
                session.execute(text("SELECT 1"))
            assert felt.seconds < most
        database.close()
    go_on = threading.Event()
    monkeypatch.setattr(engines.TimedConnection, "connect", lambda **_named: go_on.wait(SECONDS))
    database = Database("postgresql+psycopg://sluice@db.example.org/sluice", serving=True)
    with timeouts.at_most(0.2), pytest.raises(OperationalError), database.read() as session:
        session.execute(text("SELECT 1"))
    go_on.set()
    database.close()


@pytest.mark.parametrize("threshold", ["0", "none", "5"])
def test_options_of_the_driver_stand_in_the_address(postgres: PostgreSQL, threshold: str) -> None:
    """prepare_threshold=none is what a pooler such as PgBouncer wants."""
    database = Database(f"{postgres.fresh()}?prepare_threshold={threshold}&sslmode=disable")
    database.create()
    database.prepare()
    with database.read() as session:
        for _ in range(10):
            assert session.execute(text("SELECT 1")).scalar() == 1
    database.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """Pages that only read go on; forms say so; what was there before is there when there is room again."""
    place = tmp_path / "disk"
    url = f"sqlite:///{place / 'sluice.db'}"
    with full_when_asked(place) as (fill, make_room), services(tmp_path, url) as found:
        long_unseen(found.database)
        fill()
        found.pages_go_on_and_forms_say_so()
        make_room()
        found.all_works()


@contextmanager
def full_when_asked(folder: Path) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Make `folder` a small disk, and return how to fill it and to make room again."""
    assert os.geteuid() == 0, "only root mounts a disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    assert mount
    assert umount
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True, timeout=60)
    ballast = folder / "ballast"

    def fill() -> None:
        with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
            for _ in range(4096):
                file.write(bytes(4096))

    try:
        yield fill, ballast.unlink
    finally:
        subprocess.run([umount, str(folder)], check=True, timeout=60)


def plain(url: str) -> str:
    """Return an address as psycopg takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def test_addresses_that_cannot_be_used_are_told_without_their_password(tmp_path: Path) -> None:
    for address in (
        "postgresql+psycopg://sluice:hunter2@127.0.0.1:port/sluice",
        "postgresql+psycopg://sluice:hunter2@127.0.0.1/sluice?no_such_option=1",
        "postgresql+psycopg://sluice:hunter2@127.0.0.1/sluice?prepare_threshold=often",
        "postgresql+psycopg://sluice:hunter2@127.0.0.1/sluice?autocommit=1",
        "postgresql+psycopg://sluice:hunter2@127.0.0.1/sluice?row_factory=dict",
        "postgresql+psycopg://sluice:hunter2@[::1/sluice",
        f"sqlite:///{tmp_path}/sluice.db?timeout=hunter2",
    ):
        with pytest.raises(ConfigError, match="database: the address cannot be used") as caught:
            Database(address).prepare()
        assert "hunter2" not in str(caught.value)


def test_a_damaged_file_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "sluice.db").write_bytes(b"no database" * 1000)
    with pytest.raises(schema.WrongSchema, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path / 'sluice.db'}").prepare()
