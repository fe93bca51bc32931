"""`sluice front`: a job's script runs it next to its engine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import resource
import signal
import time

from sluice import garbage, logs
from sluice.contracts.files import write_json
from sluice.contracts.jobs import JobRecord
from sluice.errors import EXIT_FAILURE, ConfigError
from sluice.front.config import TRIAL_AFTER, FrontConfig
from sluice.front.identity import make
from sluice.front.listener import TERMINATED, WARNED, Listener

logger = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4
SECONDS = re.compile(r"[1-9][0-9]{0,4}")
# Descriptors beyond one for each request: for connections, health checks and the process itself.
SPARE_DESCRIPTORS = 1024
# How long requests may continue after SIGTERM, in seconds: Slurm kills after 30 s (KillWait), and the engine
# must end after the front.
GRACE = 18.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice front`."""
    parser.add_argument(
        "--engine-socket", required=True, help="the engine's unix socket, or tcp:127.0.0.1:PORT[@DOOR]"
    )
    parser.add_argument(
        "--engine-health", default="/health", help="the engine's own health path (default: %(default)s)"
    )
    parser.add_argument(
        "--trial-after",
        type=_seconds,
        default=TRIAL_AFTER,
        metavar="SECONDS",
        help="how long the engine may return nothing before it is asked for a token (default: %(default)g)",
    )
    parser.add_argument("--private-dir", required=True, help="the job's own directory on the node")


def _seconds(text: str) -> float:
    """Read a number of seconds. Raises ArgumentTypeError."""
    if not SECONDS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 to 99999")
    return float(text)


def run(args: argparse.Namespace) -> int:
    """Run a front until SIGTERM, then until its requests end, GRACE seconds at most; return the exit code.

    SIGUSR1 is Slurm's warning, passed on by the job's script.
    """
    # Blocked until there is a handler: SIGUSR1 would end the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    logs.configure("front")
    _close_to_others()
    try:
        config = FrontConfig.read(
            args.engine_socket, args.engine_health, args.private_dir, os.environ, args.trial_after
        )
        _allow_connections(config.concurrency)
        return asyncio.run(_serve(config))
    except ConfigError as error:
        logger.critical("%s", error.message)
        return error.exit_code
    except OSError:
        logger.exception("cannot listen or publish the job's record")
        return EXIT_FAILURE


def _close_to_others() -> None:
    """Protect prompts and keys: no core dump, and no access for other processes of the same account."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not _undumpable():
        logger.warning("other processes of this account can read this process's memory")


def _undumpable() -> bool:
    try:
        # Imported here: a Python built without libffi has no ctypes, and the front runs without it.
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def _allow_connections(concurrency: int) -> None:
    """Raise the limit on file descriptors for full load: each request has a connection to the engine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * concurrency + SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        logger.warning("the limit on file descriptors is too low", extra={"allowed": hard, "wanted": wanted})
        wanted = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(config: FrontConfig) -> int:
    identity = make(config.private_dir)
    listener = Listener(config, identity)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.log_loop_fault)
    ended = asyncio.Event()

    def end() -> None:
        listener.drain(TERMINATED)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGUSR1, _warned, listener)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))
    port = await listener.start()
    garbage.collect_rarely()
    record = JobRecord(
        instance=config.instance,
        nonce=config.nonce,
        job_id=config.job_id,
        host=config.host,
        port=port,
        certificate=identity.certificate,
        key=identity.key,
        started=time.time(),
    )
    # Only now: who reads the record may connect at once.
    write_json(config.job_dir / "record.json", record.dump(), mode=0o600)
    logger.info("listening", extra={"instance": config.instance, "port": port})
    await ended.wait()
    logger.info("ending", extra={"instance": config.instance, "running": listener.running})
    await listener.wait_idle(GRACE)
    listener.stop()
    logger.info("ended", extra={"instance": config.instance})
    return 0


def _warned(listener: Listener) -> None:
    logger.info("Slurm warns: the job is about to end", extra={"running": listener.running})
    listener.drain(WARNED)
