"""`sluice proxy`: run the data plane."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import threading

from sluice import logs
from sluice.config import load
from sluice.errors import EXIT_FAILURE, SluiceError
from sluice.proxy.clusters.session import Session
from sluice.proxy.clusters.ssh import SshTransport
from sluice.proxy.clusters.transport import TransportError
from sluice.proxy.config import ClusterConfig, ProxyConfig, check
from sluice.proxy.service import serve

DEFAULT_CONFIG = "/etc/sluice/proxy.json"

log = logging.getLogger("sluice.proxy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)")
    parser.add_argument(
        "--try",
        dest="only_try",
        action="store_true",
        help="only open a new session with each login node, print the results, and end",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM, or only test the sessions; return the exit status. Raises ConfigError."""
    config = check(load(ProxyConfig, arguments.config), arguments.config)
    if arguments.only_try:
        return asyncio.run(_try_each(config))
    logs.configure("proxy", config.log_level)
    _silence_libraries()
    try:
        asyncio.run(serve(config))
    except SluiceError:
        raise
    except Exception:
        # A task that must not end has ended: systemd restarts the process.
        log.exception("the proxy ends because of a fault")
        return EXIT_FAILURE
    return 0


async def _try_each(config: ProxyConfig) -> int:
    """Open and close one session with each login node; write failures to standard error."""
    problems = [problem for cluster in config.clusters if (problem := await _try_one(cluster))]
    for problem in problems:
        print(problem, file=sys.stderr)
    return EXIT_FAILURE if problems else 0


async def _try_one(cluster: ClusterConfig) -> str:
    session = Session(SshTransport(cluster), cluster.name)
    try:
        hello = await session.start(cluster.connect_timeout)
    except TransportError as error:
        return f"no new session with {cluster.host} (cluster {cluster.name}): {error}"
    finally:
        session.say_goodbye()
        session.close("it was only a test")
        await session.wait_closed()
    print(f"{cluster.host} (cluster {cluster.name}): {hello.software} answers")
    return ""


def _silence_libraries() -> None:
    """Keep messages of libraries out of the log: they can quote data of requests."""
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)
    threading.excepthook = _log_thread_fault


def _log_thread_fault(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_value is not None:
        log.error("fault in a thread", exc_info=(fault.exc_type, fault.exc_value, fault.exc_traceback))
