"""A request belongs to the day of the second in which it was settled, not of the next millisecond.

Sums that are there stay as they were counted. Code of revision 0002 goes on writing all the while.
"""

from __future__ import annotations

from alembic import op

from sluice.web.database.migrations import steps

revision = "0003"
down_revision = "0002"

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


def upgrade() -> None:
    """Let the database cut off the fraction of a second before it asks for the day."""
    steps.run(_count)


def _count() -> None:
    if steps.on_postgresql():
        day = "(to_timestamp(floor(NEW.time + NEW.duration)) AT TIME ZONE 'UTC')::date"
        op.execute(
            "CREATE OR REPLACE FUNCTION count_usage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            + _ADD.format(day=day)
            + "RETURN NULL; END $$"
        )
        return
    day = "date(CAST(NEW.time + NEW.duration AS INTEGER), 'unixepoch')"
    op.execute("DROP TRIGGER IF EXISTS count_usage")
    op.execute(f"CREATE TRIGGER count_usage AFTER INSERT ON usage BEGIN{_ADD.format(day=day)}END")
