"""Settings of gunicorn for both apps: `gunicorn --config python:sluice.web.gunicorn --bind … APP`.

One worker with threads each: the figures live in that worker's memory (sluice.web.http.metrics), SQLite has
one writer at a time, and neither app is in the path of a token.
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
# The control socket is on by default and nothing here uses it.
control_socket_disable = True
# As long as nginx takes them: the code that a sign-in's answer brings may have thousands of bytes.
limit_request_line = 8190
limit_request_field_size = 8190
# The unix sockets: never open to everybody, not even between bind and chmod (gunicorn's own default is 0777).
umask = 0o117
# nginx writes the access log; gunicorn's would hold the query of a sign-in's answer.
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
    """Leave a socket in a set-group-ID folder with the folder's group, so that the other side may connect.

    gunicorn gives each socket the group of its workers, which is the wrong one; an owner without further
    groups may still name the group that the file has already.
    """
    for folder in _folders(server):
        status = folder.stat()
        if status.st_mode & stat.S_ISGID:
            server.cfg.set("group", status.st_gid)


def when_ready(server: Any) -> None:
    """Let the workers keep the process's own group; give the authority's socket the mode of the settings."""
    server.cfg.set("group", os.getegid())
    if server.app.app_uri.startswith("sluice.web.wsgi:authority"):
        mode = int(settings().authority_socket_mode, 8)
        for listener in server.LISTENERS:
            address = listener.getsockname()
            if isinstance(address, str):
                Path(address).chmod(mode)


def _folders(server: Any) -> list[Path]:
    """Return the folders of the unix sockets that gunicorn is to bind."""
    return [Path(address).parent for address in server.cfg.address if isinstance(address, str)]
