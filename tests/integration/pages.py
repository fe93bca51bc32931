"""The pages as they are deployed."""

from __future__ import annotations

import sys

from lab.bench.stack import Authority, Running


class Pages(Running):
    """The pages under gunicorn, on the authority's database."""

    def start(self, authority: Authority) -> None:
        """Start them; `socket` is where they listen."""
        self.socket = self.directory / "http.sock"
        self.socket.unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", "gunicorn", "--config", "python:sluice.web.gunicorn"]
        self.run([*argv, "--bind", f"unix:{self.socket}", "sluice.web.wsgi:web()"], authority.environment)
        self.wait_until(self.socket)
