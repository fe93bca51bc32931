"""Run by Alembic: applies the revisions on the connection that `sluice.web.database.upgrade` passes.

It commits by itself after each statement; a revision's steps make their own transactions (`steps.run`), short
ones, because services write meanwhile.
"""

from __future__ import annotations

from alembic import context


def carry_out() -> None:
    """Carry out the revisions that were asked for."""
    context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
    with context.begin_transaction():
        context.run_migrations()


# The name under which Alembic runs this file; to anybody else it is a module like others.
if __name__ == "env_py":
    carry_out()
