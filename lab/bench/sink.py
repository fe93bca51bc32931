"""In place of the site's syslog daemon: reads datagrams from a socket and drops them, at the lowest cost.

It runs in its own network namespace, where the length of a socket's queue is 512, as systemd sets it at boot.
With the kernel's default of 10, a writer would often wait for the daemon.
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
    """A daemon at `path`, in a separate process, so that its cost counts for no other part."""

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
    """Drop everything, until killed."""
    QUEUE.write_text(str(LENGTH))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        Path(path).chmod(0o666)
        room = bytearray(65_536)
        while True:
            sock.recv_into(room)


if __name__ == "__main__":
    main(sys.argv[1])
