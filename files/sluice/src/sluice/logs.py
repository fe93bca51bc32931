"""JSON log lines, one per event, to the journal. Never content: callers log names, numbers and ids."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import os
import select
import sys
import time
import traceback
from collections import deque
from typing import Any, Optional

logger = logging.getLogger(__name__)

SYSLOG_SOCKET = "/dev/log"
# Seconds that a line waits for the syslog daemon, and for which none is offered to one that took none.
SYSLOG_WAIT = 0.5
SYSLOG_DEAF = 10.0

# What the key log_level of every part may say.
LEVELS = ("debug", "info", "warning", "error")

# Of lines that are written past the logging module: they gather for this long (seconds), at most so many
# bytes of them; the journal that takes none is asked again after a while. A write of this size goes through
# whole or not at all, on a pipe and on the journal's socket, once they are said to have room.
LINES_GATHER = 0.02
LINES_HELD = 1 << 20
LINES_RETRY = 0.1
LINES_WRITE = 4096

# What every LogRecord has; anything beyond came in by `extra=` and belongs on the line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, component, message, and the fields of `extra=`.

    Of an exception it keeps type and places, never its text: a text can quote what a user sent.
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
        # DEL is the one control character that JSON leaves as it is.
        return json.dumps(line, default=str, ensure_ascii=True).replace("\x7f", "\\u007f")


def configure(component: str, level: str = "info", *, syslog: bool = False) -> None:
    """Send all logging of this process to standard error (the journal) or to the local syslog socket.

    With `syslog`, standard error stays silent: behind sshd it would reach the other side. A missing
    socket is not fatal; then nothing is logged.
    """
    handler: logging.Handler = _syslog_handler(component) if syslog else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False


def log_loop_fault(loop: object, context: dict[str, Any]) -> None:
    """Log what an event loop complains of, by type and place: its own words can quote what was carried.

    For `loop.set_exception_handler`, which hands over the loop and what it knows.
    """
    fault = context.get("exception")
    info = (type(fault), fault, fault.__traceback__) if isinstance(fault, BaseException) else None
    logger.error("unexpected fault in the event loop", exc_info=info)


class LineClock:
    """The time as lines have it, in UTC, to the millisecond; spelt once a second, since that is slow."""

    def __init__(self) -> None:
        self._second = -1
        self._spelt = ""

    def now(self) -> str:
        """Return the time of now."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._spelt = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._spelt}.{int((now - second) * 1000):03d}Z"


class LineWriter:
    """Writes lines as JsonFormatter does, past the logging module: for the one line that every request has.

    Lines are gathered and written together, from an event loop's thread, and never waited for: beyond
    LINES_HELD bytes they are lost and counted, and the count is told with the next line that goes.
    """

    def __init__(self, component: str, descriptor: int = 2, level: str = "info") -> None:
        self._head = f', "level": "info", "component": {json.dumps(component)}, "message": '
        self._descriptor = descriptor
        self._silent = LEVELS.index(level) > LEVELS.index("info")
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lines: deque[bytes] = deque()
        self._held = 0
        self._lost = 0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._clock = LineClock()

    def info(self, message: str, fields: str) -> None:
        """Take one line, to be written within LINES_GATHER seconds.

        `fields` are the line's own members as JSON has them, without braces, in ASCII.
        """
        if self._silent:
            return
        if self._held > LINES_HELD:
            self._lost += 1
            return
        line = f'{{"time": "{self._clock.now()}"{self._head}"{message}", {fields}}}\n'.encode("ascii")
        self._lines.append(line)
        self._held += len(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINES_GATHER, self.flush)

    def flush(self) -> None:
        """Write what has been gathered, as far as it is taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._lines:
            if not self._ready.poll(0):
                self._timer = asyncio.get_running_loop().call_later(LINES_RETRY, self.flush)
                return
            self._write(self._next())
        if self._lost:
            lost, self._lost = self._lost, 0
            logger.warning("log lines were lost: the journal accepted none", extra={"lost": lost})

    def _next(self) -> bytes:
        """Return the next lines, whole and of LINES_WRITE bytes at most, or one that is longer."""
        piece = [self._lines.popleft()]
        size = len(piece[0])
        while self._lines and size + len(self._lines[0]) <= LINES_WRITE:
            size += len(self._lines[0])
            piece.append(self._lines.popleft())
        self._held -= size
        return b"".join(piece)

    def _write(self, piece: bytes) -> None:
        try:
            written = os.write(self._descriptor, piece)
        except OSError:
            self._lost += piece.count(b"\n")
            return
        if written < len(piece):
            self._lines.appendleft(piece[written:])
            self._held += len(piece) - written


class _SyslogHandler(logging.handlers.SysLogHandler):
    """Never waits long: a daemon that hangs would stop the relay's every stream, and the scheduler.

    Lines that it does not take are lost and counted; the count is told as soon as it takes lines again.
    """

    def __init__(self) -> None:
        self._deaf_until = 0.0
        self._lost = 0
        super().__init__(SYSLOG_SOCKET, facility=self.LOG_DAEMON)

    def _connect_unixsocket(self, address: str) -> None:
        # The base class connects anew by this method after each failure; the types of the library know
        # neither it nor the socket.
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
                # Not taken either: it is counted, and stands for the record that is not offered now.
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
