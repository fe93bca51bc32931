"""Settings of gunicorn for both apps: `gunicorn --config python:sluice.web.gunicorn --bind … APP`.

Each app has one worker with threads: its metrics are in that worker's memory (sluice.web.http.metrics),
SQLite allows one writer at a time, and no token passes through these apps.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from sluice.web.wsgi import settings

worker_class = "gthread"
workers = 1
threads = 16
timeout = 60
graceful_timeout = 10
keepalive = 5
# gunicorn's control socket is on by default, but nothing uses it here.
control_socket_disable = True
# The same bounds as nginx: the code in a sign-in's answer can have thousands of bytes.
limit_request_line = 8190
limit_request_field_size = 8190
# The unix sockets must never be open to everybody, not even between bind and chmod (the default is 0777).
umask = 0o117
# nginx writes the access log; gunicorn's log would contain the query of a sign-in's answer.
accesslog = None
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "sluice.logs.JsonFormatter", "component": "gunicorn"}},
    "handlers": {"journal": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"level": "INFO", "handlers": ["journal"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["journal"], "propagate": False},
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
    },
}


def on_starting(server: Any) -> None:
    """Keep the group of a set-group-ID folder on the socket in it, so that the other side can connect.

    gunicorn gives each socket the group of its workers, which is wrong here. A process that is not in the
    folder's group may still set that group, because the file already has it.
    """
    for folder in _folders(server):
        status = folder.stat()
        if status.st_mode & stat.S_ISGID:
            server.cfg.set("group", status.st_gid)


def when_ready(server: Any) -> None:
    """Keep the process's own group for the workers; set the configured mode of the authority's socket."""
    server.cfg.set("group", os.getegid())
    if server.app.app_uri.startswith("sluice.web.wsgi:authority"):
        mode = int(settings().authority_socket_mode, 8)
        for listener in server.LISTENERS:
            address = listener.getsockname()
            if isinstance(address, str):
                Path(address).chmod(mode)


def _folders(server: Any) -> list[Path]:
    """Return the folders of the unix sockets that gunicorn will bind."""
    return [Path(address).parent for address in server.cfg.address if isinstance(address, str)]
