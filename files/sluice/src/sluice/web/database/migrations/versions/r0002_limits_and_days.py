"""Limits, projects, sign-ins, administration, and the days' sums of usage.

Code of revision 0001 goes on writing while and after this runs: new columns have defaults, and the database
itself adds its records to their days.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from sluice.web.database.migrations import steps

revision = "0002"
down_revision = "0001"

_SUMS = ("requests", "failed", "estimated", "input_tokens", "output_tokens", "cached_tokens")

_ADD = """
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
_SUM = """
INSERT INTO usage_day (day, "user", project, key_id, model, class,
    requests, failed, estimated, input_tokens, output_tokens, cached_tokens, seconds)
SELECT {day}, "user", project, CASE class WHEN 'interactive' THEN '' ELSE key_id END, model, class,
    count(*), sum(CASE WHEN status < 400 THEN 0 ELSE 1 END), sum(CASE WHEN measured THEN 0 ELSE 1 END),
    sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(duration)
FROM usage GROUP BY 1, 2, 3, 4, 5, 6
"""


def upgrade() -> None:
    """Add what old code need not know, then sum up what is there."""
    # Each step locks one table that services use: of two, they could hold the other.
    steps.run(_user, _api_key, _usage, _signed_in_browser, _used_token, _limit, _stopped_model)
    steps.run(_announcement, _audit_entry, _days)
    settled = "(time + duration)"
    steps.make_index("usage_of_user", "usage", f'"user", {settled}')
    steps.make_index("usage_of_project", "usage", f"project, {settled}")
    steps.make_index("usage_settled", "usage", settled)
    steps.drop_index("usage_by_user")


def _numbers() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("tokens_per_day", sa.BigInteger),
        sa.Column("concurrent", sa.Integer),
    )


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String, nullable=False, server_default="")


def _user() -> None:
    steps.add_columns("user", sa.Column("blocked", sa.Double), _text("page_project"))


def _api_key() -> None:
    steps.add_columns("api_key", _text("project"), sa.Column("models", sa.JSON), *_numbers())


def _usage() -> None:
    cached = sa.Column("cached_tokens", sa.BigInteger, nullable=False, server_default="0")
    steps.add_columns("usage", _text("project"), cached)
    if steps.on_postgresql():
        # Writes the whole table anew. No service has used PostgreSQL before this revision; never do it again.
        counts = ("input_tokens", "output_tokens", "bytes_in", "bytes_out")
        op.execute("ALTER TABLE usage " + ", ".join(f"ALTER COLUMN {name} TYPE bigint" for name in counts))


def _signed_in_browser() -> None:
    steps.create_table(
        "signed_in_browser",
        sa.Column("tag", sa.String, primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), nullable=False, index=True),
        sa.Column("sid", sa.String, nullable=False, index=True),
        sa.Column("subject", sa.String, nullable=False, index=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("seen", sa.Double, nullable=False, index=True),
    )


def _used_token() -> None:
    steps.create_table(
        "used_token",
        sa.Column("jti", sa.String, primary_key=True),
        sa.Column("expires", sa.Double, nullable=False, index=True),
    )


def _limit() -> None:
    steps.create_table(
        "limit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        *_numbers(),
        sa.Column("changed", sa.Double, nullable=False),
        sa.UniqueConstraint("scope", "model"),
    )


def _stopped_model() -> None:
    steps.create_table(
        "stopped_model",
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
    )


def _announcement() -> None:
    steps.create_table(
        "announcement",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("starts", sa.Double, nullable=False),
        sa.Column("ends", sa.Double),
        sa.Column("created", sa.Double, nullable=False),
    )


def _audit_entry() -> None:
    steps.create_table(
        "audit_entry",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("time", sa.Double, nullable=False, index=True),
        sa.Column("actor", sa.String, nullable=False, index=True),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
    )


def _days() -> None:
    if steps.has_table("usage_day"):
        return
    if steps.on_postgresql():
        # From here to the trigger nobody may add a record: it would be in no sum.
        op.execute("LOCK TABLE usage IN SHARE ROW EXCLUSIVE MODE")
    keys = ("user", "project", "key_id", "model", "class")
    op.create_table(
        "usage_day",
        sa.Column("day", sa.Date, primary_key=True),
        *(sa.Column(name, sa.String, primary_key=True) for name in keys),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        sa.Column("seconds", sa.Double, nullable=False),
    )
    if steps.on_postgresql():
        day = "(to_timestamp({}time + {}duration) AT TIME ZONE 'UTC')::date"
        op.execute(
            "CREATE OR REPLACE FUNCTION count_usage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            + _ADD.format(day=day.format("NEW.", "NEW."))
            + "RETURN NULL; END $$"
        )
        op.execute(
            "CREATE TRIGGER count_usage AFTER INSERT ON usage FOR EACH ROW EXECUTE FUNCTION count_usage()"
        )
    else:
        day = "date({}time + {}duration, 'unixepoch')"
        add = _ADD.format(day=day.format("NEW.", "NEW."))
        op.execute(f"CREATE TRIGGER count_usage AFTER INSERT ON usage BEGIN{add}END")
    op.execute(_SUM.format(day=day.format("", "")))
