"""Kernel settings that beds change while any is up, with the values from before."""

from __future__ import annotations

import json
from pathlib import Path

SETTINGS = Path("/proc/sys")
IP_FORWARD = "net/ipv4/ip_forward"
WANTED = {
    IP_FORWARD: 1,
    # The root accounts of all guests and of this machine share one allowance, and each systemd takes several.
    # Past it, units fail in guests without saying why.
    "fs/inotify/max_user_instances": 2048,
}


def read(name: str) -> int:
    """A setting's value now."""
    return int((SETTINGS / name).read_text())


def raise_all(saved: Path) -> None:
    """Raise each setting to what beds need; keep the values from before in ``saved``, once."""
    before = _load(saved)
    for name in WANTED:
        before.setdefault(name, read(name))
    saved.write_text(json.dumps(before), encoding="utf-8")
    for name, wanted in WANTED.items():
        if read(name) < wanted:
            (SETTINGS / name).write_text(f"{wanted}\n")


def restore_all(saved: Path) -> None:
    """Set every setting back to what ``saved`` keeps, and remove that file."""
    for name, value in _load(saved).items():
        if name in WANTED and read(name) != value:
            (SETTINGS / name).write_text(f"{value}\n")
    saved.unlink(missing_ok=True)


def _load(saved: Path) -> dict[str, int]:
    return dict(json.loads(saved.read_text(encoding="utf-8"))) if saved.exists() else {}
