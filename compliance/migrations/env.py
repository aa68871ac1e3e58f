"""Run migrations inside the transaction that `compliance.store` opened."""

from __future__ import annotations

from alembic import context

from compliance.store import VERSION_TABLE, Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=False,  # the caller's transaction holds everything
)
context.run_migrations()
