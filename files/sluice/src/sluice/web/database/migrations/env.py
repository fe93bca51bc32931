"""Run by Alembic: applies the revisions on the connection that `sluice.web.database.upgrade` passes.

That connection commits after each statement. The steps of a revision make their own short transactions
(`steps.run`), because services write at the same time.
"""

from __future__ import annotations

from alembic import context


def carry_out() -> None:
    """Apply the requested revisions."""
    context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
    with context.begin_transaction():
        context.run_migrations()


# Alembic runs this file under this name; importing it does nothing.
if __name__ == "env_py":
    carry_out()
