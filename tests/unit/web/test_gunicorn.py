"""The settings of gunicorn that keep sockets and logs private."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sluice.web import gunicorn
from sluice.web.settings.config import WebConfig
from sluice.web.wsgi import ENVIRONMENT
from tests.unit.web.settings.test_config import write


class Arbiter:
    """The parts of gunicorn's arbiter that its hooks read."""

    def __init__(self, app_uri: str, path: Path) -> None:
        self.app = SimpleNamespace(app_uri=app_uri)
        self.settings: dict[str, Any] = {"group": os.getegid()}
        self.cfg = SimpleNamespace(address=[str(path), ("127.0.0.1", 0)], set=self.settings.__setitem__)
        self.LISTENERS: list[socket.socket] = []


@pytest.fixture
def path(tmp_path: Path, settings: WebConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a socket; the environment names the settings' file."""
    monkeypatch.setenv(ENVIRONMENT, str(write(tmp_path / "web.json", settings)))
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "http.sock"


def test_a_socket_takes_the_group_of_a_set_group_id_folder(path: Path) -> None:
    path.parent.chmod(0o2750)
    arbiter = Arbiter("sluice.web.wsgi:web()", path)
    arbiter.settings["group"] = -1
    gunicorn.on_starting(arbiter)
    assert arbiter.settings["group"] == path.parent.stat().st_gid
    gunicorn.when_ready(arbiter)
    assert arbiter.settings["group"] == os.getegid()


def test_a_socket_in_another_folder_keeps_the_services_group(path: Path) -> None:
    path.parent.chmod(0o750)
    arbiter = Arbiter("sluice.web.wsgi:web()", path)
    arbiter.settings["group"] = -1
    gunicorn.on_starting(arbiter)
    assert arbiter.settings["group"] == -1


def test_the_authoritys_socket_gets_the_mode_of_the_settings(path: Path) -> None:
    arbiter = Arbiter("sluice.web.wsgi:authority()", path)
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        unix.bind(str(path))
        tcp.bind(("127.0.0.1", 0))
        arbiter.LISTENERS = [unix, tcp]
        gunicorn.when_ready(arbiter)
    assert path.stat().st_mode & 0o777 == 0o660


def test_a_line_may_be_as_long_as_nginx_allows() -> None:
    template = Path(__file__).parents[3] / "roles" / "nginx" / "templates" / "nginx.conf.j2"
    found = re.search(r"large_client_header_buffers \d+ (\d+)k;", template.read_text())
    assert found
    # nginx's number includes the end of the line.
    assert gunicorn.limit_request_line == gunicorn.limit_request_field_size == int(found[1]) * 1024 - 2


def test_one_worker_no_control_socket_no_access_log() -> None:
    assert (gunicorn.workers, gunicorn.worker_class) == (1, "gthread")
    assert gunicorn.control_socket_disable is True
    assert gunicorn.accesslog is None
    assert 0o777 & ~gunicorn.umask == 0o660
    assert "handlers" in json.loads(json.dumps(gunicorn.logconfig_dict))
