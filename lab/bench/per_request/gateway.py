"""The gateway of the design that starts processes for each request: an HTTP server that runs `ssh` each time.

Its ssh processes share a few connections (ControlMaster), so that no request waits for a handshake. The
connection with the fewest requests takes the next one. The forced command prints a whole HTTP answer, which
the gateway passes on to the client unchanged.

    python -m lab.bench.per_request.gateway --socket PATH --masters DIR --model NAME
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
from pathlib import Path

REQUEST = re.compile(rb"POST (/v1/chat/completions|/v1/completions) HTTP/1\.[01]\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
MAX_HEAD = 16_384
MAX_BODY = 33_554_432
READ = 65_536
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FAILED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class Gateway:
    """Serves clients; `busy` counts the requests of each master."""

    def __init__(self, masters: list[str], model: str) -> None:
        self._busy = dict.fromkeys(masters, 0)
        self._model = model

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it leaves."""
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        asked, length = REQUEST.match(head), LENGTH.search(head)
        if asked is None or length is None or int(length[1]) > MAX_BODY:
            writer.write(BAD)
            return False
        body = await reader.readexactly(int(length[1]))
        master = min(self._busy, key=self._busy.__getitem__)
        self._busy[master] += 1
        try:
            return await self._run(master, asked[1].decode(), body, writer)
        finally:
            self._busy[master] -= 1

    async def _run(self, master: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-F", "none", "-S", master, "-T", "login", f"{path} {self._model}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        sent = 0
        try:
            process.stdin.write(body)
            process.stdin.close()
            while data := await process.stdout.read(READ):
                writer.write(data)
                await writer.drain()
                sent += len(data)
        finally:
            if await process.wait() and not sent:
                writer.write(FAILED)
        return process.returncode == 0 or not sent


async def _serve(path: str, masters: list[str], model: str) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    gateway = Gateway(masters, model)
    await asyncio.start_unix_server(gateway.serve, path, backlog=1024)
    await ended.wait()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--socket", required=True, help="unix socket to listen on")
    parser.add_argument("--masters", type=Path, required=True, help="directory of the ssh masters' sockets")
    parser.add_argument("--model", required=True, help="the model that every request is for")
    arguments = parser.parse_args()
    masters = [str(path) for path in sorted(arguments.masters.glob("m*"))]
    # The default watcher starts a thread for each process.
    watcher = asyncio.PidfdChildWatcher()
    asyncio.set_child_watcher(watcher)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.socket, masters, arguments.model))


if __name__ == "__main__":
    main()
