"""The first process in a box: it starts the engine, ends it on USR2, and collects orphaned processes.

It is process 1 there: the kernel does not deliver signals that it does not handle. So Slurm's TERM to all
processes of a job reaches the engine only once. When process 1 ends, the kernel kills the rest of the box.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Optional

NOT_FOUND = 127
BACKLOG = 128
# The starter ignores these. An engine that inherited that could not be asked to end.
DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def serve(argv: Sequence[str], environment: Mapping[str, str], door: Optional[tuple[int, str]] = None) -> int:
    """Run the engine to its end; return its exit status, or 128 plus the number of the signal that ended it.

    `door` is for an engine that listens on a TCP port of the box's loopback: the port, and the path of a unix
    socket through which connections to that port are passed out of the box.
    """
    for number in DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    if door is not None:
        port, path = door
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(BACKLOG)
        threading.Thread(target=hand_out, args=(listener, port), daemon=True).start()
    try:
        # Popen closes all descriptors except the first three.
        engine = subprocess.Popen(argv, env=dict(environment))
    except OSError as error:
        hint = "add its folder to model_box_read" if isinstance(error, FileNotFoundError) else "see its mode"
        print(f"sluice: box: {argv[0]}: {error.strerror} in the box; {hint}", file=sys.stderr)
        return NOT_FOUND
    signal.signal(signal.SIGUSR2, lambda *_: engine.terminate())
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == engine.pid:
            return exit_status(os.waitstatus_to_exitcode(status))


def hand_out(listener: socket.socket, port: int) -> None:
    """Pass each caller a connection to the engine; close the caller's connection if that fails."""
    while listener.fileno() >= 0:
        try:
            caller, _ = listener.accept()
        except OSError:
            # No free descriptor at the moment, or the caller has left.
            time.sleep(0.1)
            continue
        with caller, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as made:
            made.setblocking(False)
            socket.send_fds(caller, [b"\0"], [made.fileno()])


def exit_status(code: int) -> int:
    """Return an exit code in the way shells do: 128 plus the signal's number after a signal."""
    return code if code >= 0 else 128 - code
