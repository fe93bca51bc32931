"""Runs another program with bounded time and output; its environment is built, not inherited."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, Union, cast

T = TypeVar("T")

MAX_OUTPUT = 16 * 1024 * 1024
MAX_MESSAGE = 300
PIECE = 1 << 16


@dataclass(frozen=True)
class Known(Generic[T]):
    """A program answered, and the answer was understood."""

    value: T


@dataclass(frozen=True)
class Unknown:
    """A program did not answer, or its answer cannot be relied on; `reason` is for people."""

    reason: str


@dataclass(frozen=True)
class Finished:
    """A command that ended by itself."""

    status: int
    output: str
    errors: str

    def message(self) -> str:
        """Return one line for people, at most 300 characters: the exit status and the command's output."""
        said = " ".join((self.errors or self.output).split())
        return f"exit status {self.status}: {said}"[:MAX_MESSAGE]


def environment(bin_dir: str, conf: str) -> dict[str, str]:
    """Return the whole environment of a Slurm command. Raises LookupError if the account is unknown.

    Slurm prints times in the client's time zone, so TZ is UTC.
    """
    found = {"PATH": f"{bin_dir}:/usr/bin:/bin", "HOME": _home(os.getuid()), "LC_ALL": "C", "TZ": "UTC"}
    if conf:
        found["SLURM_CONF"] = conf
    return found


# Cached: the directory service may be unavailable for a while later.
@functools.lru_cache(maxsize=4)
def _home(account: int) -> str:
    try:
        return pwd.getpwuid(account).pw_dir
    except (KeyError, OSError):
        words = f"account {account} cannot be looked up; is the directory service unavailable?"
        raise LookupError(words) from None


def run(
    argv: Sequence[str], text: str, variables: Mapping[str, str], timeout: float, **identity: Any
) -> Union[Finished, Unknown]:
    """Run one command with `text` as its input; kill its whole process group after `timeout` seconds.

    `identity` holds Popen's user, group and extra_groups, to run as another account. Raises OSError if the
    command cannot be started.
    """
    program = Path(argv[0]).name
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(variables),
        cwd="/",
        start_new_session=True,
        **identity,
    )
    try:
        output, errors = _talk(process, text.encode(), time.monotonic() + timeout)
    except TimeoutError:
        return Unknown(f"{program}: no answer within {timeout:g} s")
    except OverflowError:
        return Unknown(f"{program}: answer larger than {MAX_OUTPUT} bytes")
    finally:
        _end(process)
    return Finished(process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))


def _talk(process: subprocess.Popen[bytes], text: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Write the program's input, read its output and wait for its end. Raises TimeoutError, OverflowError."""
    said: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    unsaid, hears = memoryview(text), cast(IO[bytes], process.stdin)
    with selectors.DefaultSelector() as ready:
        os.set_blocking(hears.fileno(), False)
        ready.register(hears, selectors.EVENT_WRITE)
        for stream in said:
            ready.register(stream, selectors.EVENT_READ)
        while ready.get_map():
            for key, _ in ready.select(_left(deadline)):
                if key.fileobj is hears:
                    unsaid = unsaid[_write(key.fd, unsaid) :]
                    over = not unsaid
                else:
                    piece = os.read(key.fd, PIECE)
                    said[key.fileobj] += piece
                    over = not piece
                if over:
                    ready.unregister(key.fileobj)
                    # A stream, as registered above; the selector's type allows a bare number too.
                    key.fileobj.close()  # type: ignore[union-attr]
            if sum(map(len, said.values())) > MAX_OUTPUT:
                raise OverflowError
    try:
        process.wait(_left(deadline))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return bytes(said[process.stdout]), bytes(said[process.stderr])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _write(descriptor: int, text: memoryview) -> int:
    """Write what the pipe takes, return how many bytes; after a broken pipe, pretend to have written all."""
    try:
        return os.write(descriptor, text[:PIECE])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program's process group, and close its pipes."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A process in uninterruptible sleep may not end: waiting longer for it would stop the scheduler.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
