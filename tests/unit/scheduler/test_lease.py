"""Only one scheduler: the flock among processes, the lease among hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.scheduler import lease
from sluice.scheduler.state import Lease

HOLDER = """
import sys, time
from sluice.scheduler import lease
with lease.lock(sys.argv[1], 0.0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, env=environment
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(lease.Busy, match="lock"), lease.lock(path, 0.0):
            pass
        holder.kill()
        holder.wait()
    with lease.lock(path, 0.0):
        assert Path(path).exists()


def test_another_hosts_lease_holds_until_it_is_over() -> None:
    own = Lease("login1", "boot", 1000.0)
    with pytest.raises(lease.Busy, match="login2"):
        lease.check(Lease("login2", "b", 920.0), own, 90.0)
    lease.check(Lease("login2", "b", 910.0), own, 90.0)


def test_the_same_hosts_lease_is_void_because_the_lock_was_free() -> None:
    own = Lease("login1", "boot-2", 1000.0)
    lease.check(Lease("login1", "boot-1", 999.0), own, 90.0)
    lease.check(Lease(), own, 90.0)


def test_a_lease_from_the_future_of_another_host_still_holds() -> None:
    with pytest.raises(lease.Busy):
        lease.check(Lease("login2", "b", 2000.0), Lease("login1", "b", 1000.0), 90.0)


def test_the_lease_names_host_and_boot() -> None:
    own = lease.own_lease(5.0)
    assert own.host and len(own.boot_id) == 36 and own.time == 5.0
