"""The access log: one line for each request, in the form of `sluice.logs`, at a fraction of its cost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
from collections import deque

from sluice.logs import LEVELS, LineClock

logger = logging.getLogger(__name__)

# Lines are gathered for LINES_GATHER seconds, up to LINES_HELD bytes. If the journal accepts
# none, it is tried again after LINES_RETRY seconds. A write of up to LINES_WRITE bytes to a pipe or to the
# journal's socket is whole or fails, once poll says that there is room.
LINES_GATHER = 0.02
LINES_HELD = 1 << 20
LINES_RETRY = 0.1
LINES_WRITE = 4096


class AccessLog:
    """Writes lines in JsonFormatter's form without the logging module: for the one line of every request.

    Lines are gathered and written together from the event loop's thread, which never waits for them. Beyond
    LINES_HELD bytes, lines are dropped and counted; the count is logged as soon as a line can be written.
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
        self._timer: asyncio.TimerHandle | None = None
        self._clock = LineClock()

    def info(self, message: str, fields: str) -> None:
        """Queue one line, to be written within LINES_GATHER seconds.

        `fields` are the line's own members as ASCII JSON without braces.
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
        """Write as many of the gathered lines as the descriptor accepts now."""
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
        """Return the next whole lines, LINES_WRITE bytes at most, or one longer line."""
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
