"""`sluice proxy`: run the data plane."""

from __future__ import annotations

import argparse
import asyncio
import logging
import threading

from sluice import logs
from sluice.config import load
from sluice.errors import EXIT_FAILURE, SluiceError
from sluice.proxy.config import ProxyConfig, check
from sluice.proxy.service import serve

DEFAULT_CONFIG = "/etc/sluice/proxy.json"

log = logging.getLogger("sluice.proxy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM; return the exit status. Raises ConfigError."""
    config = check(load(ProxyConfig, arguments.config), arguments.config)
    logs.configure("proxy", config.log_level)
    _silence_libraries()
    try:
        asyncio.run(serve(config))
    except SluiceError:
        raise
    except Exception:
        # A part that never should end has ended: systemd starts the process anew.
        log.exception("the proxy ends in a fault")
        return EXIT_FAILURE
    return 0


def _silence_libraries() -> None:
    """Keep libraries' own words out of the log: they can quote what was carried."""
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)
    threading.excepthook = _log_thread_fault


def _log_thread_fault(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_value is not None:
        log.error("fault in a thread", exc_info=(fault.exc_type, fault.exc_value, fault.exc_traceback))
