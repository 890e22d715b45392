"""Log lines, what users said of agents, users by day, and failures that their source counts without a time."""

from alembic import op

revision = "0002"
down_revision = "0001"

_UPGRADE = """
create table agentmill.execution_logs (
    source text not null,
    log_id text not null,
    execution_id text,
    row_hash text not null,
    agent_id text,
    user_key text,
    event_time timestamptz not null,
    level text,
    category text,
    message text,
    context_bytes bigint,
    context_shape text,
    quality_flags text[] not null,
    redactions jsonb,
    attributes jsonb
) partition by range (event_time);

create table agentmill.user_agent_preferences (
    source text not null,
    user_key text not null,
    agent_id text not null,
    row_hash text not null,
    event_time timestamptz not null,
    is_favorite boolean,
    rating bigint check (rating between 1 and 5),
    feedback text,
    quality_flags text[] not null,
    redactions jsonb,
    attributes jsonb
) partition by range (event_time);

create table agentmill.user_activity_daily (
    day date not null,
    user_key text not null,
    agent_id text not null,
    execution_count bigint not null,
    success_count bigint not null,
    failure_count bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    primary key (day, user_key, agent_id)
);

insert into agentmill.user_activity_daily
select
    (event_time at time zone 'UTC')::date,
    user_key,
    agent_id,
    count(*),
    count(*) filter (where status = 'success'),
    count(*) filter (where status in ('failed', 'timeout', 'error')),
    min(event_time),
    max(event_time)
from agentmill.executions
where user_key is not null
group by 1, 2, 3;

alter table agentmill.executions add column occurrences bigint;
alter table agentmill.failure_signatures_daily add column reported_count bigint;
update agentmill.failure_signatures_daily set reported_count = occurrence_count;
alter table agentmill.failure_signatures_daily alter column reported_count set not null;
alter table agentmill.failure_clusters add column reported_count bigint;
update agentmill.failure_clusters set reported_count = occurrence_count;
alter table agentmill.failure_clusters alter column reported_count set not null;
"""

_DOWNGRADE = """
alter table agentmill.failure_clusters drop column reported_count;
alter table agentmill.failure_signatures_daily drop column reported_count;
alter table agentmill.executions drop column occurrences;
drop table agentmill.user_activity_daily, agentmill.user_agent_preferences, agentmill.execution_logs;
"""


def upgrade() -> None:
    """Add the tables and columns."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop them with their data."""
    op.execute(_DOWNGRADE)
