"""The database of users, keys and usage. Of a request's content it has no column."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

PERSON = "person"
SERVICE = "service"

_WRITE = "sluice_write"


class Base(DeclarativeBase):
    """The tables."""


class User(Base):
    """A person as the provider names them, or a service account made by an operator.

    `pseudonym` is all that the cluster ever sees. `groups` are those of the last sign-in or refresh.
    """

    __tablename__ = "user"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    issuer: Mapped[str]
    subject: Mapped[str]
    name: Mapped[str]
    email: Mapped[str]
    groups: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[float]
    seen: Mapped[float]


class ApiKey(Base):
    """A key as its owner sees it in the list; `stored` is its `keys.stored_form`."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    name: Mapped[str]
    hint: Mapped[str]
    secret_id: Mapped[str]
    stored: Mapped[str] = mapped_column(unique=True)
    created: Mapped[float]
    expires: Mapped[float]
    revoked: Mapped[float | None]
    last_used: Mapped[float | None]
    user: Mapped[User] = relationship(lazy="joined")


class PageBearer(Base):
    """A short-lived bearer of the chat page; `session_tag` names the sign-in with which it ends."""

    __tablename__ = "page_bearer"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    session_tag: Mapped[str] = mapped_column(index=True)
    secret_id: Mapped[str]
    stored: Mapped[str] = mapped_column(unique=True)
    created: Mapped[float]
    expires: Mapped[float] = mapped_column(index=True)
    user: Mapped[User] = relationship(lazy="joined")


class Usage(Base):
    """One settled request: docs/contracts.md, "Usage record"."""

    __tablename__ = "usage"
    __table_args__ = (Index("usage_by_user", "user", "time"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]
    user: Mapped[str]
    key_id: Mapped[str]
    model: Mapped[str]
    cluster: Mapped[str]
    instance: Mapped[str]
    class_: Mapped[str] = mapped_column("class")
    path: Mapped[str]
    status: Mapped[int]
    code: Mapped[str]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    measured: Mapped[bool]
    wait: Mapped[float]
    first_byte: Mapped[float | None]
    duration: Mapped[float]
    bytes_in: Mapped[int]
    bytes_out: Mapped[int]


class Database:
    """One engine; `read` and `write` are its only transactions."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        self._writer = self._engine.execution_options(**{_WRITE: True})
        self.dialect = self._engine.dialect.name
        if self.dialect == "sqlite":
            _tune_sqlite(self._engine)

    def prepare(self) -> None:
        """Create the tables that are missing; safe when web and authority start at once."""
        with self._writer.begin() as connection:
            Base.metadata.create_all(connection)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads; what it loads stays usable after it."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that writes; committed at the end of the block, rolled back if it raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # The driver's own transaction handling begins too late; see on_begin.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that reads first and takes the write lock later fails at once, whatever the time-out,
        # if another has written in between: take the lock first.
        writes = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
