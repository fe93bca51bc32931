"""An event loop on epoll, for the stub engine and the load generator.

It is not asyncio, because both must be far cheaper than what they measure. A call here is a system call and a
function, about 3 microseconds; asyncio with TLS takes ten times that for each token.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
AT_ONCE = 256
COARSE = 0.002
Handler = Callable[[int], None]


class Loop:
    """Calls handlers of files that are ready (with epoll's event mask) and functions whose time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._stopped = False

    def add(self, file: int, events: int, handler: Handler) -> None:
        """Watch a file."""
        self._handlers[file] = handler
        self._epoll.register(file, events)

    def change(self, file: int, events: int) -> None:
        """Watch for other events of a watched file."""
        self._epoll.modify(file, events)

    def remove(self, file: int) -> None:
        """Stop watching a file; call this before the file is closed."""
        del self._handlers[file]
        self._epoll.unregister(file)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call once at a time of the monotonic clock (never within this call)."""
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, call))

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Run until stopped."""
        poll, handlers = self._epoll.poll, self._handlers
        while not self._stopped:
            for file, events in poll(self._wait(), AT_ONCE):
                handler = handlers.get(file)
                if handler is not None:  # an earlier handler of this turn may have removed it
                    handler(events)
            self._call_due()

    def close(self) -> None:
        """Release the epoll."""
        self._epoll.close()

    def _wait(self) -> float:
        """Return for how long to poll. Wait here for what is due soon: epoll counts milliseconds."""
        if not self._timers:
            return -1.0
        seconds = self._timers[0][0] - time.monotonic()
        if 0.0 < seconds < COARSE:
            select.select((self._epoll,), (), (), seconds)
            return 0.0
        return max(seconds - COARSE, 0.0)

    def _call_due(self) -> None:
        timers, now = self._timers, time.monotonic()
        last = self._count  # what is added from here on waits for the next turn, after reads and writes
        postponed = []
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)
            if timer[1] > last:
                postponed.append(timer)
            else:
                timer[2]()
        for timer in postponed:
            heapq.heappush(timers, timer)
