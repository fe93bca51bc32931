"""Who gives a command on a host of Sluice: for people to read in logs and status. It proves nothing."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from sluice.contracts.values import ADMIN

# The account that a session began with: the kernel keeps it through `su` and `sudo`.
_LOGIN = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1


def name() -> str:
    """Return the account name of who gives this command, "" if unknown.

    It is what sudo says, else the account that the session began with, else this process's own.
    """
    found = os.environ.get("SUDO_USER", "") or _account(_login()) or _account(os.getuid())
    return found if ADMIN.fullmatch(found) else ""


def _login() -> int:
    try:
        return int(_LOGIN.read_text(encoding="ascii"))
    except (OSError, ValueError):  # a kernel without auditing
        return _NO_LOGIN


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return ""
