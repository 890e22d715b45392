"""Who was erased, by pseudonym; and how many records of each day are left out because of it."""

from alembic import op

revision = "0004"
down_revision = "0003"

_UPGRADE = """
create table agentmill.erased_users (
    user_key text primary key,
    erased_at timestamptz not null
);

alter table agentmill.receipts_daily add column erased_count bigint not null default 0;
alter table agentmill.receipts_daily alter column erased_count drop default;
alter table agentmill.receipts_daily drop constraint receipts_daily_check;
alter table agentmill.receipts_daily add constraint receipts_daily_check
    check (received_count = clean_count + quarantined_count + duplicate_count + erased_count);
"""

_DOWNGRADE = """
alter table agentmill.receipts_daily drop constraint receipts_daily_check;
update agentmill.receipts_daily set received_count = received_count - erased_count;
alter table agentmill.receipts_daily drop column erased_count;
alter table agentmill.receipts_daily add constraint receipts_daily_check
    check (received_count = clean_count + quarantined_count + duplicate_count);
drop table agentmill.erased_users;
"""


def upgrade() -> None:
    """Add the table and the count; until now nobody was erased."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop them. The lake remembers who was erased, and records of erased users stay away."""
    op.execute(_DOWNGRADE)
