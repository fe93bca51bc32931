"""Users, keys, page bearers and usage, as the first services made them by themselves."""

from __future__ import annotations

import sqlalchemy as sa

from sluice.web.database.migrations import steps

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    steps.run(_user, _api_key, _page_bearer, _usage)


def _user() -> None:
    steps.create_table(
        "user",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("pseudonym", sa.String, nullable=False, unique=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("issuer", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("email", sa.String, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("seen", sa.Double, nullable=False),
        sa.UniqueConstraint("issuer", "subject"),
    )


def _api_key() -> None:
    steps.create_table(
        "api_key",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), nullable=False, index=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("hint", sa.String, nullable=False),
        sa.Column("secret_id", sa.String, nullable=False),
        sa.Column("stored", sa.String, nullable=False, unique=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("revoked", sa.Double),
        sa.Column("last_used", sa.Double),
    )


def _page_bearer() -> None:
    steps.create_table(
        "page_bearer",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), nullable=False),
        sa.Column("session_tag", sa.String, nullable=False, index=True),
        sa.Column("secret_id", sa.String, nullable=False),
        sa.Column("stored", sa.String, nullable=False, unique=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False, index=True),
    )


def _usage() -> None:
    steps.create_table(
        "usage",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("user", "key_id", "model", "cluster")),
        *(sa.Column(name, sa.String, nullable=False) for name in ("instance", "class", "path")),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("measured", sa.Boolean, nullable=False),
        sa.Column("wait", sa.Double, nullable=False),
        sa.Column("first_byte", sa.Double),
        sa.Column("duration", sa.Double, nullable=False),
        sa.Column("bytes_in", sa.Integer, nullable=False),
        sa.Column("bytes_out", sa.Integer, nullable=False),
        sa.Index("usage_by_user", "user", "time"),
    )
