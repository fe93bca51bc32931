"""Checks whether this node can create a box, and what its administrators can do if it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROGRAM = "bwrap"
SECONDS = 10
SYSCTLS = Path("/proc/sys")
MOST = 300
# Kernel settings that can forbid namespaces to an ordinary account, the forbidding value, and what helps.
LOCKS = (
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile that grants userns to /usr/bin/bwrap (Ubuntu: package apparmor-profiles, "
        "bwrap-userns-restrict)",
    ),
)


def program() -> str:
    """Return bubblewrap's path, "" if it is not installed."""
    return shutil.which(PROGRAM, path="/usr/local/bin:/usr/bin:/bin") or ""


def advice() -> str:
    """Return in one line what an administrator can do on this node."""
    if not program():
        return "bubblewrap is missing on this node: install the package bubblewrap on the compute nodes"
    for name, bad, remedy in LOCKS:
        try:
            if (SYSCTLS / name).read_text().strip() == bad:
                return f"{name.replace('/', '.')} is {bad}: {remedy}"
        except OSError:
            continue
    return "this node's kernel or container does not let the account create namespaces"


def problem() -> str:
    """Create a box for a test; return the problem and what helps, "" if it works."""
    found = program()
    if not found:
        return advice()
    argv = [
        found,
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]
    # The box's own /tmp, not the node's.
    argv += ["--tmpfs", "/tmp", "--as-pid-1", "--cap-drop", "ALL", "--", "/usr/bin/env", "true"]  # noqa: S108 - the box's own
    try:
        tried = subprocess.run(argv, capture_output=True, timeout=SECONDS, check=False, env={}, cwd="/")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run ({type(error).__name__}); {advice()}"
    if tried.returncode == 0:
        return ""
    said = " ".join(tried.stderr.decode("utf-8", "replace").split())
    return f"{said or 'bubblewrap failed'}; {advice()}"[:MOST]
