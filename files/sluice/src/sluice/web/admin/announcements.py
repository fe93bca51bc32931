"""Announcements of administrators, shown above every page: maintenance, news."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from sluice.web.admin import audit
from sluice.web.database.tables import Announcement
from sluice.web.words import links, times
from sluice.web.words.validation import ValidationError, check_label

LEVELS = ("info", "warning")
MAX_TEXT = 400
# More would push the page's own content out of sight.
MAX_SHOWN = 3


def shown(session: Session, now: float) -> Sequence[Announcement]:
    """Return the announcements to show at `now`: warnings first, then the newest, at most MAX_SHOWN."""
    return session.scalars(
        select(Announcement)
        .where(Announcement.starts <= now, or_(Announcement.ends.is_(None), Announcement.ends > now))
        .order_by(Announcement.level.desc(), Announcement.starts.desc(), Announcement.id.desc())
        .limit(MAX_SHOWN)
    ).all()


def planned(session: Session, now: float) -> Sequence[Announcement]:
    """Return the announcements that begin after `now`, the next first, at most MAX_SHOWN."""
    later = select(Announcement).where(Announcement.starts > now)
    return session.scalars(later.order_by(Announcement.starts, Announcement.id).limit(MAX_SHOWN)).all()


def for_pages(session: Session, now: float) -> list[dict[str, Any]]:
    """Return what pages show at `now`: of each a name of its own, its level, and its text in pieces.

    The name holds the start too: a database may use the number of a row again that it no longer has.
    """
    return [
        {"id": f"{row.id}-{int(row.starts)}", "level": row.level, "pieces": links.pieces(row.text)}
        for row in shown(session, now)
    ]


def listed(session: Session, *, offset: int = 0, most: int = 100) -> Sequence[Announcement]:
    """Return at most `most` announcements, past and planned ones too, latest first, skipping `offset`."""
    newest = select(Announcement).order_by(Announcement.starts.desc(), Announcement.id.desc())
    return session.scalars(newest.offset(offset).limit(most)).all()


def state(row: Announcement, now: float) -> str:
    """Return `planned`, `shown` or `ended`."""
    if row.ends is not None and row.ends <= now:
        return "ended"
    return "planned" if row.starts > now else "shown"


def add(
    session: Session, actor: str, text: str, level: str, starts: float, ends: float | None, now: float
) -> Announcement:
    """Announce `text` from `starts` until `ends` (seconds since the epoch; None: until `end`).

    Raises ValidationError.
    """
    check_label(text, MAX_TEXT)
    if level not in LEVELS:
        raise ValidationError("level", levels=", ".join(LEVELS))
    if ends is not None and ends <= max(starts, now):
        raise ValidationError("ends_too_early")
    row = Announcement(text=text, level=level, starts=starts, ends=ends, created=now)
    session.add(row)
    session.flush()
    audit.add(session, actor, "announcement.add", str(row.id), None, _audit_values(row), now)
    return row


def end(session: Session, actor: str, number: int, now: float) -> bool:
    """End the announcement with id `number`. Return False if there is none, or it has already ended."""
    row = session.get(Announcement, number)
    if row is None or state(row, now) == "ended":
        return False
    before = _audit_values(row)
    row.ends = now
    # A planned announcement must not end before it starts.
    row.starts = min(row.starts, now)
    audit.add(session, actor, "announcement.end", str(row.id), before, _audit_values(row), now)
    return True


def _audit_values(row: Announcement) -> dict[str, Any]:
    ends = None if row.ends is None else times.written(row.ends)
    return {"text": row.text, "level": row.level, "starts": times.written(row.starts), "ends": ends}
