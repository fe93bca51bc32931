"""Reads the schema of a database, and creates the tables of the first services."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

GOLDEN = Path(__file__).parents[2] / "golden" / "database"

_INDEXES = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
}
_TRIGGERS = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT pg_get_triggerdef(oid) || prosrc FROM (SELECT t.oid, p.prosrc FROM pg_trigger t "
    "JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT tgisinternal) AS found",
}


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """A connection of its own, each statement committed."""
    options = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(url, poolclass=NullPool, execution_options=options)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA synchronous=OFF")
            yield connection
    finally:
        engine.dispose()


def make_first(url: str) -> None:
    """Create the tables like the code from before revisions."""
    with connect(url) as connection:
        sql = (GOLDEN / f"first-{connection.dialect.name}.sql").read_text()
        for statement in sql.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)


def layout(url: str) -> dict[str, Any]:
    """Return all parts of the schema in which two ways of creating it could differ."""
    with connect(url) as connection, warnings.catch_warnings():
        # What it cannot read of such indexes is read as text.
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        found, dialect = inspect(connection), connection.dialect.name
        tables = {
            name: {
                "columns": sorted(_column(column, dialect) for column in found.get_columns(name)),
                "key": found.get_pk_constraint(name)["constrained_columns"],
                "foreign": [(key["constrained_columns"], key["referred_table"])
                            for key in found.get_foreign_keys(name)],
                "unique": sorted(key["column_names"] for key in found.get_unique_constraints(name)),
            }
            for name in found.get_table_names()
        }  # fmt: skip
        return {
            "tables": tables,
            "indexes": _texts(connection, _INDEXES[dialect]),
            "triggers": _texts(connection, _TRIGGERS[dialect]),
        }


def _column(column: Any, dialect: str) -> tuple[str, ...]:
    type_ = str(column["type"])
    if dialect == "sqlite" and type_ == "BIGINT":
        # It has one type for whole numbers.
        type_ = "INTEGER"
    return (column["name"], type_, str(column["nullable"]), str(column["default"]))


def _texts(connection: Connection, query: str) -> list[str]:
    return sorted(re.sub(r"\s+", " ", row[0]).strip() for row in connection.execute(text(query)))
