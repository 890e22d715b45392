"""What an older application knew: balances at a cut and its transactions, apart from everything measured."""

from alembic import op

revision = "0003"
down_revision = "0002"

_UPGRADE = """
create table agentmill.legacy_migrations (
    migration_id text primary key,
    cut date not null,
    content_sha256 text not null,
    balance_count bigint not null,
    interaction_count bigint not null,
    accounts jsonb not null,
    backup text not null,
    migrated_at timestamptz not null default clock_timestamp()
);
create unique index one_legacy_migration on agentmill.legacy_migrations ((true));

create table agentmill.agent_opening_balances (
    agent_id text primary key,
    agent_name text not null,
    as_of date not null,
    execution_count bigint check (execution_count >= 0),
    success_count bigint check (success_count >= 0),
    failure_count bigint check (failure_count >= 0),
    duration_avg_ms double precision check (duration_avg_ms >= 0 and duration_avg_ms < 'Infinity'),
    user_count bigint check (user_count >= 0),
    migration_id text not null,
    check (coalesce(success_count, 0) + coalesce(failure_count, 0) <= execution_count)
);

create table agentmill.interaction_history (
    interaction_id text primary key,
    user_key text not null,
    agent_id text not null,
    status text,
    occurred_at timestamptz not null,
    migration_id text not null
);
create index on agentmill.interaction_history (user_key, agent_id);
"""

_DOWNGRADE = """
drop table agentmill.interaction_history, agentmill.agent_opening_balances, agentmill.legacy_migrations;
"""


def upgrade() -> None:
    """Create the tables of a migration from an older application, empty."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop them with what was migrated; the older application can be migrated from again."""
    op.execute(_DOWNGRADE)
