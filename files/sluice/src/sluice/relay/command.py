"""`sluice relay`: the program that the forced command starts. It reads no argument from the other side."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor

from sluice import logs
from sluice.errors import EXIT_FAILURE, ConfigError
from sluice.relay import stdio
from sluice.relay.config import RelayConfig, read
from sluice.relay.session import Session
from sluice.relay.watch import WatchedFile

logger = logging.getLogger(__name__)

# Threads for the look-up of host names; TasksMax of the systemd slice relies on this number.
THREADS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice relay`."""
    default = "/etc/sluice/relay.json"
    parser.add_argument("--config", default=default, help="configuration file (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Serve one session; return the exit code. Nothing is ever written to standard error."""
    # A core dump would contain prompts.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _silence_standard_error()
    logs.configure("relay", syslog=True)
    try:
        config = read(args.config)
        logs.configure("relay", config.log_level, syslog=True)
        return asyncio.run(_serve(config, args.config))
    except ConfigError as error:
        logger.critical("%s", error.message)
        return error.exit_code
    except Exception:
        # The interpreter's own traceback could reach the other side, or quote a body.
        logger.exception("unexpected fault")
        return EXIT_FAILURE


async def _serve(config: RelayConfig, path: str) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.log_loop_fault)
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    # "client port server port", set by sshd.
    logger.info("session begins", extra={"source": os.environ.get("SSH_CONNECTION", "")})
    # If the site lowers a limit, sessions that already run must obey it too.
    session = Session(config, [WatchedFile(path, lambda: _readable(path))])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, session.end, "signal")
    await stdio.attach(session.endpoint)
    why = await session.run()
    logger.info("session ended", extra={"why": why})
    return 0


def _readable(path: str) -> bool:
    try:
        read(path)
    except ConfigError as error:
        logger.warning("%s", error.message)
        return False
    return True


def _silence_standard_error() -> None:
    """Redirect file descriptor 2 to /dev/null: sshd would send it to the other side."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
