"""Alembic's entry: migrations run over the connection that the warehouse hands in."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="agentmill", transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
