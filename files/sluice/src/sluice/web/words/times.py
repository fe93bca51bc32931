"""Reads and writes times for people, always in UTC."""

from __future__ import annotations

import datetime

from sluice.web.words.validation import ValidationError


def read(text: str) -> float | None:
    """Return the seconds since the epoch of a time such as 2026-11-22 or 2026-11-22T18:30; None for "".

    Raises ValidationError.
    """
    if not text:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        found = moment.timestamp()
        # Rounding or an offset can move it after the last possible day.
        datetime.datetime.fromtimestamp(found, datetime.timezone.utc)
    except (ValueError, OverflowError):
        raise ValidationError("time", time=text[:40]) from None
    return found


def written(time: float) -> str:
    """Return a time to the second, such as 2026-11-22T18:30:05Z."""
    moment = datetime.datetime.fromtimestamp(int(time), datetime.timezone.utc)
    return moment.isoformat().replace("+00:00", "Z")


def day(time: float) -> str:
    """Return the day of a time, such as 2026-11-22."""
    return written(time)[:10]
