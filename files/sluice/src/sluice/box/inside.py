"""The first process in a box: it starts the engine, ends it on USR2, and collects orphaned processes.

It is process 1 there. The kernel keeps from it every signal that it does not handle, so Slurm's TERM to all
processes of a job reaches the engine once; when it ends, the kernel ends all that is left in the box.
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
# Ignored by whoever started this; an engine that found them ignored could not be asked to end.
DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def serve(argv: Sequence[str], environment: Mapping[str, str], door: Optional[tuple[int, str]] = None) -> int:
    """Run the engine to its end and return its exit status, 128 and the signal's number where one ended it.

    An engine that listens on a port of the box's own loopback is reached by a unix socket that hands out
    connections to it: `door` is that port and the socket's path.
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
        # Every descriptor but the three first is closed to it.
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
    """Give each caller a connection to the engine; who gets none is hung up on."""
    while listener.fileno() >= 0:
        try:
            caller, _ = listener.accept()
        except OSError:
            # No descriptor is free for now, or the caller has gone.
            time.sleep(0.1)
            continue
        with caller, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as made:
            made.setblocking(False)
            socket.send_fds(caller, [b"\0"], [made.fileno()])


def exit_status(code: int) -> int:
    """Return a process's end as shells tell it."""
    return code if code >= 0 else 128 - code
