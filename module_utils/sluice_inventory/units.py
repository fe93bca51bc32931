"""Sizes and times as people write them, and the numbers that the settings take. Pure."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGT])(?:i?B)?")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|sec|min|m|h|d|days?|hours?|minutes?|seconds?)")
_CLOCK = re.compile(r"(?:([0-9]+)-)?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_DAYS = re.compile(r"([0-9]+)-([0-9]{2})")
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SYSTEMD = re.compile(r"([1-9][0-9]*(?:\.[0-9]+)?)([KMGT])")
SYSTEMD_FORM = "a size such as 512M or 2G (K, M, G or T, in capitals, without B)"


def size(text: str) -> int | None:
    """Return the bytes (or things) that a text such as `64G` or `32k` means, by powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    return int(float(found[1]) * 1024 ** _POWERS[found[2]]) if found else None


def seconds(text: str) -> int | None:
    """Return the seconds that `90min`, `2h`, Slurm's `2-00:00:00`, `48:00:00` or `2-00` mean."""
    words = text.strip()
    found = _TIME.fullmatch(words)
    if found:
        return int(float(found[1]) * _SECONDS[found[2][0]])
    clock = _CLOCK.fullmatch(words)
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    whole = _DAYS.fullmatch(words)
    return (int(whole[1]) * 24 + int(whole[2])) * 3600 if whole else None


def number_meant(name: str, text: str) -> str:
    """Return the number to write for a text with a unit, "" if it has none.

    `name` says in which unit it counts.
    """
    last = name.rsplit(".", 1)[-1]
    in_seconds = seconds(text)
    if in_seconds is not None:
        per = 60 if last in ("time", "time_min") else 86_400 if last.endswith("days") else 1
        return str(in_seconds // per)
    meant = size(text)
    if meant is None:
        return ""
    return str(meant >> 20 if last == "memory_mb" else meant)


def systemd_size(text: str) -> int | None:
    """Return the bytes of a size as systemd reads it, None if it does not."""
    found = _SYSTEMD.fullmatch(text)
    return int(float(found[1]) * 1024 ** _POWERS[found[2]]) if found else None
