"""`sluice scheduler`: started by the launcher. It holds its lock, ticks for `run_for` seconds, and ends.

The launcher (cron, a systemd timer, Slurm's scrontab) is the supervisor: it starts a new process each minute,
also after one was killed. The new process waits for the lock, so it begins as soon as the old one ends.
"""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sluice import config, logs
from sluice.errors import SluiceError
from sluice.scheduler import lease
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.loop.tick import Scheduler
from sluice.scheduler.outside import probe
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.slurm.client import Slurm
from sluice.scheduler.state import StateFile

log = logging.getLogger(__name__)

CONFIG = "/etc/sluice/scheduler.json"
# Seconds between two looks for new demand while the scheduler rests; each reads a few files.
LOOK_EVERY = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice scheduler`."""
    parser.add_argument("--config", default=CONFIG, help="configuration file (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="make one tick and end; logs go to stderr")


def run(arguments: argparse.Namespace) -> int:
    """Run the scheduler; return 0, or 1 if account, lock, lease, state or disk do not allow it."""
    began = time.monotonic()
    settings = config.load(SchedulerConfig, arguments.config)
    logs.configure("scheduler", settings.log_level, syslog=not arguments.once)
    problem = wrong_account(settings.state_file)
    if problem:
        sys.stderr.write(f"sluice scheduler: {problem}\n")
        return SluiceError.exit_code
    stop = StopSignal()
    try:
        with lease.lock(settings.lock_file, 0.0 if arguments.once else settings.run_for, stop.is_set):
            scheduler = assemble(settings)
            scheduler.load()
            if arguments.once:
                scheduler.tick()
            else:
                tick_until(scheduler, began + settings.run_for, stop)
                if settings.launcher == "scrontab":
                    scheduler.release()
    except lease.Busy as error:
        log.warning(error.message)
        return _busy(arguments.once, error)
    except OSError as error:
        log.critical("the scheduler cannot continue", extra={"problem": str(error)})
        sys.stderr.write(f"sluice scheduler: {error}\n")
        return SluiceError.exit_code
    return 0


def wrong_account(state_file: str) -> str:
    """Return why this account must not run the scheduler, or "".

    The scheduler's account could not read files that another account wrote.
    """
    folder = Path(state_file).parent
    try:
        owner = folder.stat().st_uid
    except OSError:
        # Reading the state will report it.
        return ""
    if owner == os.geteuid():
        return ""
    try:
        account = pwd.getpwuid(owner).pw_name
    except KeyError:
        account = f"user {owner}"
    return f"{folder} is {account}'s: run this as {account} (runuser -u {account} -- …); its launcher does"


def _busy(once: bool, error: lease.Busy) -> int:
    """Return the exit status if another scheduler runs: normal for a launcher, an error for a person."""
    if once:
        sys.stderr.write(f"sluice scheduler: {error.message}\n")
        return error.exit_code
    return 0


def assemble(settings: SchedulerConfig) -> Scheduler:
    """Return the scheduler that the configuration describes, its state not yet loaded."""
    return Scheduler(
        config=settings,
        slurm=Slurm(settings.slurm_bin, settings.slurm_conf, settings.command_timeout),
        states=StateFile(settings.state_file),
        directories=JobDirectories(settings.jobs_dir, settings.port_range()),
        probe=probe.healthy,
        clock=time.time,
    )


def tick_until(scheduler: Scheduler, deadline: float, stop: StopSignal) -> None:
    """Tick until the monotonic time `deadline` or until `stop` is set; look for demand between ticks."""
    while not stop.is_set():
        scheduler.tick()
        due = time.monotonic() + scheduler.interval()
        while time.monotonic() < due and not stop.is_set():
            if time.monotonic() >= deadline:
                return
            # With short intervals the next tick is near anyway and will see new demand.
            look = LOOK_EVERY if scheduler.resting else scheduler.config.busy_interval
            stop.wait(min(look, max(0.0, due - time.monotonic())))
            if scheduler.asked():
                break
        if time.monotonic() >= deadline:
            return


class StopSignal:
    """Set by SIGTERM and SIGINT: the process finishes the current tick and ends."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, *_: Any) -> None:
        self._event.set()

    def is_set(self) -> bool:
        """Whether the process must stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until it is set."""
        self._event.wait(seconds)
