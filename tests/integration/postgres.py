"""A real PostgreSQL for tests: an ordinary process of an account without rights, on a loopback port."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from demo.bed import packages
from tests.integration.login import free_port

ADDRESS = "127.0.0.1"
ACCOUNT = "nobody"
OWNER = "sluice"
SECONDS = 60
ROOM = 1 << 30


class PostgreSQL:
    """One server; `fresh()` gives each test a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_hex(16)
        self._programs = _programs()
        self._account = pwd.getpwnam(ACCOUNT)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port(ADDRESS)
        self._made = 0

    def make(self) -> None:
        """Make its files; they lie where its account may read and nobody else."""
        os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        password = self.folder / "password"
        password.write_text(self.password)
        os.chown(password, self._account.pw_uid, self._account.pw_gid)
        argv = ["initdb", "--pgdata", str(self.folder / "data"), "--username", OWNER, "--encoding", "UTF8"]
        argv += ["--locale", "C", "--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync"]
        done = self._run(argv)
        done.communicate(timeout=SECONDS)
        assert done.returncode == 0, (self.folder / "log").read_text()
        password.unlink()

    def start(self) -> None:
        """Start it and wait until it answers."""
        argv = ["postgres", "-D", str(self.folder / "data"), "-h", ADDRESS, "-p", str(self._port)]
        argv += ["-k", str(self.folder), "-c", "shared_buffers=32MB", "-c", "max_connections=60"]
        argv += ["-c", "max_wal_size=64MB"]
        self._process = self._run(argv)
        end = time.monotonic() + SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < end
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once; nobody needs its files any more."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill it, as the kernel does when memory runs out; its children end with it."""
        self._end(signal.SIGKILL)

    def fresh(self) -> str:
        """Make an empty database and return its URL."""
        self._made += 1
        name = f"site{self._made}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the URL of a database, as web.json has it."""
        place = URL.create("postgresql+psycopg", OWNER, self.password, ADDRESS, self._port, name)
        return place.render_as_string(hide_password=False)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(SECONDS)
            self._process = None

    def _answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        engine = create_engine(
            self.url("postgres"), poolclass=NullPool, execution_options={"isolation_level": "AUTOCOMMIT"}
        )
        with engine.connect() as connection:
            connection.execute(text(statement))

    def _run(self, argv: list[str]) -> subprocess.Popen[bytes]:
        account = self._account
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / argv[0], *argv[1:]],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                env={"PATH": os.defpath, "LC_ALL": "C"},
            )


@contextlib.contextmanager
def running() -> Iterator[PostgreSQL]:
    """Install PostgreSQL where it is missing, run a server, and leave nothing of it."""
    assert os.geteuid() == 0, (
        "PostgreSQL refuses root: the tests start it as another account, and need root for it"
    )
    # Not below pytest's own folder: that is closed to other accounts.
    folder = Path(tempfile.mkdtemp(prefix="sluice-postgres-", dir=_quick_folder()))
    server = None
    try:
        server = PostgreSQL(folder)
        server.make()
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _quick_folder() -> Path | None:
    """Return a folder in memory if there is one with room: many a sync to a disk that others use is slow."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM else None


def _programs() -> Path:
    with packages.alone():
        found = _installed()
    if not found:
        packages.install(["postgresql"])
        found = _installed()
    assert found, "Debian's package postgresql brought no server"
    return found[-1]


def _installed() -> list[Path]:
    programs = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return sorted((path.parent for path in programs), key=lambda path: int(path.parent.name))
