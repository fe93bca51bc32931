"""One scheduler per cluster: a flock on this host, and a lease in the state that other hosts respect."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from sluice.errors import SluiceError
from sluice.scheduler.state import Lease

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RETRY_EVERY = 0.5


class Busy(SluiceError):
    """Another process holds the lock, or another host the lease."""

    def __init__(self, message: str) -> None:
        super().__init__("internal_error", message)


@contextmanager
def lock(path: str, wait: float, stopped: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the lock file's flock; wait for it at most `wait` seconds, or until `stopped`. Raises Busy.

    The kernel releases the flock when the process ends, however it ends; a file left behind locks nothing.
    Child processes do not inherit it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, time.monotonic() + wait, stopped)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: str, deadline: float, stopped: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline or stopped():
                raise Busy(f"{path}: another scheduler of this host holds the lock") from None
            time.sleep(RETRY_EVERY)
        else:
            return


def own_lease(now: float) -> Lease:
    """Return this host's lease, as of `now`."""
    return Lease(host=socket.gethostname(), boot_id=BOOT_ID.read_text().strip(), time=now)


def check(found: Lease, own: Lease, duration: float) -> None:
    """Raise Busy if another host's lease has not expired; `duration` in seconds.

    On the same host the flock decides, so a lease of an earlier boot or process of this host does not count.
    """
    age = own.time - found.time
    if found.host in ("", own.host) or age >= duration:
        return
    raise Busy(
        f"the scheduler ran on {found.host} {max(0.0, age):.0f} s ago; its lease ends after "
        f"{duration:g} s. Only one host's launcher may start it"
    )
