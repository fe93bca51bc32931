"""Audit lines: one for each request, written directly to the syslog socket without waiting for it.

A request that reached an instance always has its own line. A request that ended before that has one too,
while there are few of them. If there are many, one line each second counts them by outcome: an attacker who
controls the gateway must not fill the site's log, or push other programs' lines out of it.

The lines are the same as those of `sluice.logs`, at a tenth of the cost: their fields are known, and each was
matched in full against a form without quotes, backslashes and control characters. They never have content.
"""

from __future__ import annotations

import logging
import socket
import time
from logging.handlers import SysLogHandler
from typing import Optional

from sluice import logs
from sluice.gate.limits import Rate

logger = logging.getLogger(__name__)

_HEAD = f"<{SysLogHandler.LOG_DAEMON << 3 | SysLogHandler.LOG_INFO}>sluice-relay: "
# How often the relay tries to reach a syslog daemon that was restarted (seconds).
REOPEN_SECONDS = 1.0
# Requests that reached no instance get this many lines a second, and as many at once.
UNSERVED_LINES = 20.0


class Audit:
    """Writes audit lines. Lines that the daemon does not accept at once are lost.

    Lost lines are counted, and the count is logged as soon as the daemon accepts lines again. Call `tick`
    each second.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: Optional[socket.socket] = None
        self._opened = float("-inf")
        self._clock = logs.LineClock()
        self._lost = 0
        self._unserved = Rate(UNSERVED_LINES, time.monotonic())
        self._untold: dict[str, int] = {}

    def request(
        self,
        *,
        request_id: str,
        user: str,
        class_: str,
        model: str,
        path: str,
        instance: str,
        status: int,
        outcome: str,
        bytes_in: int,
        bytes_out: int,
        duration: float,
    ) -> None:
        """Write the line of a request that has ended; `instance`: "" if it reached none.

        `duration` in seconds.
        """
        if not instance and not self._unserved.take(time.monotonic()):
            self._untold[outcome] = self._untold.get(outcome, 0) + 1
            return
        line = (
            f'{_HEAD}{{"time": "{self._clock.now()}", "level": "info", "component": "relay", '
            f'"message": "request", "request_id": "{request_id}", "user": "{user}", "class": "{class_}", '
            f'"model": "{model}", "path": "{path}", "instance": "{instance}", "status": {status}, '
            f'"outcome": "{outcome}", "bytes_in": {bytes_in}, "bytes_out": {bytes_out}, '
            f'"duration": {duration:.4f}}}'
        )
        if not self._send(line.encode("ascii")):
            self._lost += 1
        elif self._lost:
            lost, self._lost = self._lost, 0
            logger.warning("audit lines were lost: the syslog daemon accepted none", extra={"lost": lost})

    def tick(self) -> None:
        """Write one line that counts the requests without a line since the last tick, and the lost lines."""
        if not self._untold and not self._lost:
            return
        outcomes = ", ".join(f'"{name}": {count}' for name, count in sorted(self._untold.items()))
        line = (
            f'{_HEAD}{{"time": "{self._clock.now()}", "level": "info", "component": "relay", '
            f'"message": "requests without a line each", "count": {sum(self._untold.values())}, '
            f'"outcomes": {{{outcomes}}}, "lost": {self._lost}}}'
        )
        # If the daemon does not accept it now, the next tick counts these too.
        if self._send(line.encode("ascii")):
            self._untold.clear()
            self._lost = 0

    def close(self) -> None:
        """Write the last counts, and close the socket."""
        self.tick()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, line: bytes) -> bool:
        daemon = self._socket or self._open()
        if daemon is None:
            return False
        try:
            daemon.send(line)
        except BlockingIOError:
            return False
        except OSError:
            # The daemon has ended, or a new one listens at the same path.
            self.close()
            return False
        return True

    def _open(self) -> Optional[socket.socket]:
        now = time.monotonic()
        if now - self._opened < REOPEN_SECONDS:
            return None
        self._opened = now
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.setblocking(False)
        try:
            opened.connect(self._path)
        except OSError:
            opened.close()
            return None
        self._socket = opened
        return opened


def open_audit() -> Audit:
    """Return an Audit that writes to the machine's syslog."""
    return Audit(logs.SYSLOG_SOCKET)
