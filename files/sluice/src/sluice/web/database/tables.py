"""The database of users, keys and usage. It has no column for a request's content."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    ForeignKey,
    Index,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sluice.web.database import engines, schema
from sluice.web.database.locks import SharedLock

PERSON = "person"
SERVICE = "service"


class Base(DeclarativeBase):
    """The tables."""


class User(Base):
    """A person from the provider, or a service account that an operator created.

    `pseudonym` is the only name that the cluster sees. `groups` are those of the last sign-in or refresh.
    `blocked`: since when the user is blocked, or None. `page_project`: the project that they chose for their
    use of the chat page, or "".
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
    blocked: Mapped[float | None]
    page_project: Mapped[str] = mapped_column(default="", server_default="")


class ApiKey(Base):
    """An API key; `stored` is its `generation.stored_form`.

    `project`: for which project its use counts, or "". `models`: the only models for which it may be used,
    or None for all that its owner may use. The numbers are its own limits (`contracts.authority.Limit`).
    """

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
    project: Mapped[str] = mapped_column(default="", server_default="")
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None]
    user: Mapped[User] = relationship(lazy="joined")


class PageBearer(Base):
    """A page bearer; it ends with the sign-in that `session_tag` names."""

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
    """The usage record of one request (docs/contracts.md); `settled()` is when it was settled.

    A trigger adds each new row to its `UsageDay`.
    """

    __tablename__ = "usage"
    __table_args__ = (
        Index("usage_of_user", text('"user"'), text("(time + duration)")),
        Index("usage_of_project", "project", text("(time + duration)")),
        Index("usage_settled", text("(time + duration)")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]
    user: Mapped[str]
    project: Mapped[str] = mapped_column(default="", server_default="")
    key_id: Mapped[str]
    model: Mapped[str]
    cluster: Mapped[str]
    instance: Mapped[str]
    class_: Mapped[str] = mapped_column("class")
    path: Mapped[str]
    status: Mapped[int]
    code: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    measured: Mapped[bool]
    wait: Mapped[float]
    first_byte: Mapped[float | None]
    duration: Mapped[float]
    bytes_in: Mapped[int] = mapped_column(BigInteger)
    bytes_out: Mapped[int] = mapped_column(BigInteger)


def settled() -> ColumnElement[float]:
    """Return when a `Usage` was settled, in the form of the indexes."""
    return Usage.time + Usage.duration


class UsageDay(Base):
    """The usage that was settled on one day (UTC): limits and reports read it instead of single records.

    A trigger adds to it in the transaction that inserts a `Usage`, whichever version of the code inserts it.
    `key_id` is "" for the chat page, whose bearers live for minutes. `failed`: requests with a status of 400
    or more; `estimated`: those whose tokens were counted by chunks; `seconds`: the sum of their durations.
    """

    __tablename__ = "usage_day"

    day: Mapped[datetime.date] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    class_: Mapped[str] = mapped_column("class", primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    estimated: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]


class SignedInBrowser(Base):
    """One sign-in: a page works only while its row exists.

    `tag` names it (`sign_in.SignedInUser.tag`). `sid` and `subject` are the claims `sid` ("" if missing) and
    `sub` of the provider's ID token; `sub` need not be the claim that identifies the user. Times are seconds
    since the epoch; `seen` is updated with use, at most once a minute.
    """

    __tablename__ = "signed_in_browser"

    tag: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    sid: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    created: Mapped[float]
    seen: Mapped[float] = mapped_column(index=True)


class UsedToken(Base):
    """A logout token that was used: kept until it expires, so that it works only once."""

    __tablename__ = "used_token"

    jti: Mapped[str] = mapped_column(primary_key=True)
    expires: Mapped[float] = mapped_column(index=True)


class LimitRow(Base):
    """A limit that an administrator set at this gateway, in addition to the inventory's.

    `scope`: see `settings.rules.RULE_SCOPE`. `model`: "" for all models together.
    """

    __tablename__ = "limit"
    __table_args__ = (UniqueConstraint("scope", "model"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str]
    model: Mapped[str]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None]
    changed: Mapped[float]


class StoppedModel(Base):
    """A model that an administrator has stopped at this gateway; `message` is for its users."""

    __tablename__ = "stopped_model"

    model: Mapped[str] = mapped_column(primary_key=True)
    message: Mapped[str]
    since: Mapped[float]


class Announcement(Base):
    """A text above every page from `starts` until `ends`; `level` is `info` or `warning`."""

    __tablename__ = "announcement"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    level: Mapped[str]
    starts: Mapped[float]
    ends: Mapped[float | None]
    created: Mapped[float]


class AuditEntry(Base):
    """An entry of the audit log; `actor`: a pseudonym, or `audit.operator` for the command line.

    `before` and `after` are the changed values; they never contain a key or another secret.
    """

    __tablename__ = "audit_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[float] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(index=True)
    action: Mapped[str]
    object: Mapped[str]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


_COUNT = """
INSERT INTO usage_day (day, "user", project, key_id, model, class,
    requests, failed, estimated, input_tokens, output_tokens, cached_tokens, seconds)
VALUES ({day}, NEW."user", NEW.project, CASE NEW.class WHEN 'interactive' THEN '' ELSE NEW.key_id END,
    NEW.model, NEW.class, 1, CASE WHEN NEW.status < 400 THEN 0 ELSE 1 END,
    CASE WHEN NEW.measured THEN 0 ELSE 1 END,
    NEW.input_tokens, NEW.output_tokens, NEW.cached_tokens, NEW.duration)
ON CONFLICT (day, "user", project, key_id, model, class) DO UPDATE SET
    requests = usage_day.requests + 1,
    failed = usage_day.failed + excluded.failed,
    estimated = usage_day.estimated + excluded.estimated,
    input_tokens = usage_day.input_tokens + excluded.input_tokens,
    output_tokens = usage_day.output_tokens + excluded.output_tokens,
    cached_tokens = usage_day.cached_tokens + excluded.cached_tokens,
    seconds = usage_day.seconds + excluded.seconds;
"""
_DAYS = {
    # Of the whole second: both databases would round the last moment of a day to the next day.
    "sqlite": "date(CAST(NEW.time + NEW.duration AS INTEGER), 'unixepoch')",
    "postgresql": "(to_timestamp(floor(NEW.time + NEW.duration)) AT TIME ZONE 'UTC')::date",
}
# The triggers that add a new usage record to its day, by dialect.
USAGE_TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER count_usage AFTER INSERT ON usage BEGIN" + _COUNT.format(day=_DAYS["sqlite"]) + "END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION count_usage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        + _COUNT.format(day=_DAYS["postgresql"])
        + "RETURN NULL; END $$",
        "CREATE TRIGGER count_usage AFTER INSERT ON usage FOR EACH ROW EXECUTE FUNCTION count_usage()",
    ),
}


@event.listens_for(UsageDay.__table__, "after_create")
def _count_usage(_table: object, connection: Connection, **_options: object) -> None:
    # Listens on the table that is created after `usage`: names decide the order.
    for statement in USAGE_TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


class Database:
    """The database; all transactions use `read` or `write`."""

    def __init__(self, url: str, *, serving: bool = False) -> None:
        """Connect later, at first use. `serving`: see `engines.make`. Raises ConfigError."""
        self._engine = engines.make(url, serving=serving)
        self._writer = self._engine.execution_options(**{engines.WRITE: True})
        self._lock: SharedLock | None = None
        self.dialect = self._engine.dialect.name

    def create(self) -> None:
        """Create all tables in an empty database, in one transaction."""
        with self._writer.begin() as connection:
            Base.metadata.create_all(connection)
            schema.stamp(connection)

    def prepare(self) -> None:
        """Check the tables' revision, and prevent a restore until `close`.

        Raises WrongSchema, which says what to run, and DatabaseInUse. Only `sluice db upgrade` changes
        tables.
        """
        path = self._engine.url.database
        if self.dialect == "sqlite" and path and self._lock is None:
            self._lock = SharedLock(path)
        try:
            with self._engine.connect() as connection:
                schema.require(connection)
        except DBAPIError as error:
            raise schema.WrongSchema(unreachable(self._engine, error)) from None
        if self.dialect == "sqlite":
            engines.require_file(self._engine)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads; loaded objects stay usable after it."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that writes: committed at the end of the block, rolled back if it raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all pooled connections, and allow a restore."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def unreachable(engine: Engine, error: DBAPIError) -> str:
    """Return the message that the database cannot be opened."""
    # The driver's own message may quote the address with its password.
    place = engine.url.render_as_string(hide_password=True)
    return (
        f"the database {place} cannot be opened ({type(error.orig).__name__}): check that it runs and "
        "belongs to Sluice"
    )
