"""The revision of the tables for which this code is written. It refuses every other."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, inspect, select
from sqlalchemy.engine import Connection

from sluice.errors import ConfigError

# The newest of `migrations/versions`, and those that `sluice db upgrade` brings up to it.
REVISION = "0003"
OLDER = ("0001", "0002")
# Tables of the time before revisions were noted: those of the first.
UNSTAMPED = OLDER[0]

# Alembic's own, as it makes it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class WrongSchema(ConfigError):
    """The tables are not those that this code knows; the message says what to run."""


def revision(connection: Connection) -> str | None:
    """Return the revision of the tables, None where there are none."""
    tables = set(inspect(connection).get_table_names())
    if _VERSION.name in tables:
        found = connection.scalar(select(_VERSION.c.version_num))
        if found is not None:
            return str(found)
    return UNSTAMPED if "user" in tables else None


def stamp(connection: Connection) -> None:
    """Note that the tables, just made, are of REVISION, unless one is noted already."""
    _VERSION.create(connection, checkfirst=True)
    if connection.scalar(select(_VERSION.c.version_num)) is None:
        connection.execute(_VERSION.insert().values(version_num=REVISION))


def require(connection: Connection) -> None:
    """Raise WrongSchema unless the tables are of REVISION."""
    found = revision(connection)
    if found == REVISION:
        return
    if found is not None and found not in OLDER:
        raise WrongSchema(newer_message(found))
    state = "has no tables yet" if found is None else f"is of revision {found}"
    raise WrongSchema(
        f"the database {state}, this version of Sluice needs revision {REVISION}: on the gateway, as root, "
        "run sluice db upgrade (playbooks/gateway.yml does it too)"
    )


def newer_message(found: str) -> str:
    """Say what to do about a revision that nobody knows here."""
    return (
        f"the database has revision {found}, but this version of Sluice knows none after {REVISION}: "
        "install the version that wrote it, or restore a backup of this version (sluice db restore)"
    )
