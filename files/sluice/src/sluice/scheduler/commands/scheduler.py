"""`sluice scheduler`: what the launcher starts. It ticks under its lock for `run_for` seconds and ends.

The launcher (cron, a systemd timer, Slurm's scrontab) is the supervisor: a process that was killed is
followed by the next within a minute. The next process waits for the lock, so that a long tick of one leaves
no hole before the other.
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
# How often a scheduler at rest looks whether somebody asks for a model, in seconds: a few files are read.
LOOK_EVERY = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice scheduler`."""
    parser.add_argument("--config", default=CONFIG, help="configuration file (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="make one tick and end; logs go to stderr")


def run(arguments: argparse.Namespace) -> int:
    """Run the scheduler; return the exit status: 0, or 1 when the lease, the state or the disk forbids it."""
    began = time.monotonic()
    settings = config.load(SchedulerConfig, arguments.config)
    logs.configure("scheduler", settings.log_level, syslog=not arguments.once)
    problem = wrong_account(settings.state_file)
    if problem:
        sys.stderr.write(f"sluice scheduler: {problem}\n")
        return SluiceError.exit_code
    stop = Stop()
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
    """Return why this account must not tick, or "": what it writes, the scheduler's own could not read."""
    folder = Path(state_file).parent
    try:
        owner = folder.stat().st_uid
    except OSError:
        # Whoever reads the state says so.
        return ""
    if owner == os.geteuid():
        return ""
    try:
        account = pwd.getpwuid(owner).pw_name
    except KeyError:
        account = f"user {owner}"
    return f"{folder} is {account}'s: run this as {account} (runuser -u {account} -- …); its launcher does"


def _busy(once: bool, error: lease.Busy) -> int:
    """Return the status when somebody else runs: ordinary for a launcher, news to a person."""
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


def tick_until(scheduler: Scheduler, deadline: float, stop: Stop) -> None:
    """Tick until the monotonic time `deadline` or until told to stop; between ticks, look for demand."""
    while not stop.is_set():
        scheduler.tick()
        due = time.monotonic() + scheduler.interval()
        while time.monotonic() < due and not stop.is_set():
            if time.monotonic() >= deadline:
                return
            # While something is under way the next tick is near anyway, and sees all that was asked.
            look = LOOK_EVERY if scheduler.resting else scheduler.config.busy_interval
            stop.wait(min(look, max(0.0, due - time.monotonic())))
            if scheduler.asked():
                break
        if time.monotonic() >= deadline:
            return


class Stop:
    """Set by SIGTERM and SIGINT: the tick under way is finished, then the process ends."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, *_: Any) -> None:
        self._event.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait, at most until told to stop."""
        self._event.wait(seconds)
