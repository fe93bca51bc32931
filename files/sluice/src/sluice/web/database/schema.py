"""The revision of the tables that this code needs. It refuses all others."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, inspect, select
from sqlalchemy.engine import Connection

from sluice.errors import ConfigError

# The newest revision in `migrations/versions`, and those from which `sluice db upgrade` can upgrade.
REVISION = "0003"
OLDER = ("0001", "0002")
# Tables without a recorded revision have the first one.
UNSTAMPED = OLDER[0]

# Alembic's own table, as Alembic creates it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class WrongSchema(ConfigError):
    """The tables have another revision than this code needs; the message says what to run."""


def revision(connection: Connection) -> str | None:
    """Return the revision of the tables, None if there are none."""
    tables = set(inspect(connection).get_table_names())
    if _VERSION.name in tables:
        found = connection.scalar(select(_VERSION.c.version_num))
        if found is not None:
            return str(found)
    return UNSTAMPED if "user" in tables else None


def stamp(connection: Connection) -> None:
    """Record REVISION for tables that were just created, unless a revision is recorded already."""
    _VERSION.create(connection, checkfirst=True)
    if connection.scalar(select(_VERSION.c.version_num)) is None:
        connection.execute(_VERSION.insert().values(version_num=REVISION))


def require(connection: Connection) -> None:
    """Raise WrongSchema unless the tables have REVISION."""
    found = revision(connection)
    if found == REVISION:
        return
    if found is not None and found not in OLDER:
        raise WrongSchema(newer_message(found))
    state = "has no tables yet" if found is None else f"has revision {found}"
    raise WrongSchema(
        f"the database {state}, but this version of Sluice needs revision {REVISION}: on the gateway, as "
        "root, run sluice db upgrade (playbooks/gateway.yml also runs it)"
    )


def newer_message(found: str) -> str:
    """Return a message about a newer revision that this version does not know."""
    return (
        f"the database has revision {found}, but this version of Sluice knows none after {REVISION}: "
        "install the version that wrote it, or restore a backup of this version (sluice db restore)"
    )
