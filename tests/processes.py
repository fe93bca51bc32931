"""Runs the tests in several processes that share one collection: `pytest -p tests.processes --processes 4`.

The tests are collected once, and the processes are forked behind that: none imports again what the others
have. A file stays in one process, so that its fixtures are made once. Each process takes the next file when
it comes to the last test of its own: it must know what follows, to keep the fixtures that still serve.
docs/decisions/the-unit-tests-processes.md says why this is not pytest-xdist's work.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Iterator
from itertools import groupby
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the option."""
    parser.addoption("--processes", type=int, default=1, help="how many run at a time")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the collected tests, where there are to be several processes."""
    number = session.config.getoption("--processes")
    if number < 2 or session.config.option.collectonly or session.testsfailed:
        return None
    files = [list(items) for _, items in groupby(session.items, key=lambda item: item.path)]
    workers = [_fork(session, files, index) for index in range(min(number, len(files)))]
    try:
        _serve(session, {worker.link: worker for worker in workers}, len(files))
    finally:
        for worker in workers:
            worker.end()
    return True


class _Worker:
    """A process, as the one that reports sees it."""

    def __init__(self, pid: int, link: Connection) -> None:
        self._pid = pid
        self.link = link
        self.runs = ""

    def end(self) -> None:
        """Interrupt it where it still runs, and wait for it."""
        if not self.link.closed:
            self.link.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGINT)
        os.waitpid(self._pid, 0)


def _serve(session: pytest.Session, busy: dict[Any, _Worker], files: int) -> None:
    """Hand out the files in their order, and report what the processes say."""
    handed = iter(range(files))
    config = session.config
    while busy:
        for link in wait(list(busy)):
            worker = busy[link]
            try:
                kind, what = worker.link.recv()
            except EOFError:
                pytest.exit(f"a process of the tests ended within {worker.runs}", returncode=1)
            if kind == "next":
                stop = session.shouldfail or session.shouldstop
                worker.link.send(None if stop else next(handed, None))
            elif kind == "start":
                worker.runs = what[0]
                config.hook.pytest_runtest_logstart(nodeid=what[0], location=what[1])
            elif kind == "report":
                report = config.hook.pytest_report_from_serializable(config=config, data=what)
                config.hook.pytest_runtest_logreport(report=report)
            elif kind == "fault":
                pytest.exit(what, returncode=1)
            else:
                worker.link.close()
                del busy[link]


def _fork(session: pytest.Session, files: list[list[pytest.Item]], index: int) -> _Worker:
    # Made by the first that asks for it, and emptied then.
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    mine, theirs = Pipe()
    pid = os.fork()
    if not pid:
        mine.close()
        _work(session, files, theirs, base / f"process-{index}")
    theirs.close()
    return _Worker(pid, mine)


def _work(session: pytest.Session, files: list[list[pytest.Item]], link: Connection, base: Path) -> NoReturn:
    """Be a process of the tests; nothing of what the first does at its end is done here."""
    status = 1
    try:
        config = session.config
        base.mkdir(mode=0o700)
        config._tmp_path_factory._basetemp = base  # type: ignore[attr-defined]
        # What the processes print must not go to one file.
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture:
            capture.stop_global_capturing()
            capture.start_global_capturing()
        for name in ("terminalreporter", "terminalprogress"):
            config.pluginmanager.unregister(name=name)
        config.pluginmanager.register(_Told(config, link))
        _run(session, files, link)
        link.send(("over", None))
        status = 0
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        pass
    except BaseException:  # noqa: BLE001 - the first process says it
        link.send(("fault", traceback.format_exc()))
    finally:
        os._exit(status)


def _run(session: pytest.Session, files: list[list[pytest.Item]], link: Connection) -> None:
    items = _items(files, link)
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item = following


def _items(files: list[list[pytest.Item]], link: Connection) -> Iterator[pytest.Item]:
    while True:
        link.send(("next", None))
        number = link.recv()
        if number is None:
            return
        yield from files[number]


class _Told:
    """Passes on what is reported in a process."""

    def __init__(self, config: pytest.Config, link: Connection) -> None:
        self._config = config
        self._link = link

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Say what begins."""
        self._link.send(("start", (nodeid, location)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say how it went."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._link.send(("report", data))
