"""JSON log lines to the journal, one for each event. Callers log names, numbers and ids, never content."""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import time
import traceback
from typing import Any

logger = logging.getLogger(__name__)

SYSLOG_SOCKET = "/dev/log"
# A line waits this long for the syslog daemon; after a failure, no line is sent for SYSLOG_DEAF (seconds).
SYSLOG_WAIT = 0.5
SYSLOG_DEAF = 10.0

# The values of log_level in each part's configuration.
LEVELS = ("debug", "info", "warning", "error")

# The attributes of every LogRecord. Any other came through `extra=` and belongs in the line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, component, message, and the fields of `extra=`.

    It keeps the type of an exception and the places in the code, not its text, which can quote user input.
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line feed."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "component": self._component,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            # Without the lines' text: a zipapp that was replaced under a running process has none to give.
            walked = traceback.walk_tb(record.exc_info[2])
            frames = traceback.StackSummary.extract(walked, lookup_lines=False)
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        # DEL is the only control character that JSON does not escape.
        return json.dumps(line, default=str, ensure_ascii=True).replace("\x7f", "\\u007f")


def configure(component: str, level: str = "info", *, syslog: bool = False) -> None:
    """Send all logging of this process to standard error (the journal) or to the local syslog socket.

    With `syslog`, nothing is written to standard error, because sshd would send it to the client. If the
    syslog socket is missing, nothing is logged.
    """
    handler: logging.Handler = _syslog_handler(component) if syslog else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False


def log_loop_fault(loop: object, context: dict[str, Any]) -> None:
    """Log an error of the event loop by type and place; its message could quote data of a request.

    For `loop.set_exception_handler`, which passes the loop and a `context` dictionary.
    """
    fault = context.get("exception")
    info = (type(fault), fault, fault.__traceback__) if isinstance(fault, BaseException) else None
    logger.error("unexpected fault in the event loop", exc_info=info)


class LineClock:
    """The time for log lines, in UTC, to the millisecond. Formats once a second, because that is slow."""

    def __init__(self) -> None:
        self._second = -1
        self._spelt = ""

    def now(self) -> str:
        """Return the current time, such as `2026-01-31T12:00:00.123Z`."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._spelt = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._spelt}.{int((now - second) * 1000):03d}Z"


class _SyslogHandler(logging.handlers.SysLogHandler):
    """Never waits long: a syslog daemon that hangs must not stop the relay's streams or the scheduler.

    Lines that the daemon does not accept are lost and counted; the count is logged when it accepts lines
    again.
    """

    def __init__(self) -> None:
        self._deaf_until = 0.0
        self._lost = 0
        super().__init__(SYSLOG_SOCKET, facility=self.LOG_DAEMON)

    def _connect_unixsocket(self, address: str) -> None:
        # The base class reconnects with this method after each failure. Its type stubs have neither the
        # method nor the socket.
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self.socket.settimeout(SYSLOG_WAIT)  # type: ignore[attr-defined]

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() < self._deaf_until:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        if lost:
            text = "log lines were lost: the syslog daemon accepted none"
            fields = {"msg": text, "levelname": "WARNING", "levelno": logging.WARNING, "lost": lost}
            super().emit(logging.makeLogRecord(fields))
            if self._lost:
                # This line was lost too. Its count includes the record that is skipped now.
                self._lost += lost
                return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self._lost += 1
        self._deaf_until = time.monotonic() + SYSLOG_DEAF


def _syslog_handler(component: str) -> logging.Handler:
    try:
        handler = _SyslogHandler()
    except OSError:
        return logging.NullHandler()
    handler.ident = f"sluice-{component}: "
    handler.append_nul = False
    return handler
