"""Stands for the site's syslog daemon: takes datagrams from a socket and drops them, as cheaply as possible.

It runs in a network namespace of its own, where the length of a socket's queue is set to what systemd sets
at boot (512; the kernel's own default is 10, at which a writer waits for the daemon's every turn).
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from lab.bench import processes

QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
LENGTH = 512


class SyslogSink:
    """A daemon at `path`, in a process of its own: its cost is nobody else's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Listen."""
        log = self.path.with_suffix(".log")
        argv = ["unshare", "--net", sys.executable, "-m", "lab.bench.sink", str(self.path)]
        self._process = processes.start(argv, log, cwd=processes.ROOT)
        processes.wait_until(self.path, self._process, log)

    def stop(self) -> None:
        """Listen no more."""
        if self._process is not None:
            processes.end(self._process)


def main(path: str) -> None:
    """Drop what comes, until killed."""
    QUEUE.write_text(str(LENGTH))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        Path(path).chmod(0o666)
        room = bytearray(65_536)
        while True:
            sock.recv_into(room)


if __name__ == "__main__":
    main(sys.argv[1])
