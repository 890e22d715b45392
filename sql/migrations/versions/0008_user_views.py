"""When users work, which types of work they use and what it costs them; how few users a group may not be shown with."""

from alembic import op

revision = "0008"
down_revision = "0007"

_UPGRADE = """
create schema compat;

create table agentmill.privacy_policy (
    minimum_group_size bigint not null check (minimum_group_size >= 2)
);
create unique index one_privacy_policy on agentmill.privacy_policy ((true));
insert into agentmill.privacy_policy values (5);

alter table agentmill.user_activity_daily
    add column credited_count bigint not null default 0,
    add column credits numeric(38, 10),
    add column execution_types text[],
    add column quarters integer[],
    add column quarter_counts integer[];
alter table agentmill.user_activity_daily alter column credited_count drop default;
create index on agentmill.user_activity_daily (user_key, agent_id);
create index on agentmill.user_activity_daily (agent_id, user_key);

alter table agentmill.agent_metrics_daily
    add column first_at timestamptz,
    add column last_at timestamptz;

with run as (
    select
        (event_time at time zone 'UTC')::date as day,
        user_key,
        agent_id,
        credits,
        execution_type,
        (extract(epoch from event_time at time zone 'UTC')::bigint / 900 % 96)::integer as quarter
    from agentmill.executions
    where user_key is not null
),

quarter_of_day as (
    select
        day,
        user_key,
        agent_id,
        array_agg(quarter order by quarter) as quarters,
        array_agg(n order by quarter) as counts
    from (select day, user_key, agent_id, quarter, count(*)::integer as n from run group by 1, 2, 3, 4) as counted
    group by 1, 2, 3
),

total as (
    select day, user_key, agent_id, count(credits) as credited_count, sum(credits) as credits,
        array_agg(distinct execution_type order by execution_type) as execution_types
    from run
    group by 1, 2, 3
)

update agentmill.user_activity_daily as activity
set credited_count = total.credited_count, credits = total.credits, execution_types = total.execution_types,
    quarters = quarter_of_day.quarters, quarter_counts = quarter_of_day.counts
from total join quarter_of_day using (day, user_key, agent_id)
where (activity.day, activity.user_key, activity.agent_id) = (total.day, total.user_key, total.agent_id);

update agentmill.agent_metrics_daily as daily
set first_at = run.first_at, last_at = run.last_at
from (
    select
        (event_time at time zone 'UTC')::date as day,
        agent_id,
        min(event_time) as first_at,
        max(event_time) as last_at
    from agentmill.executions
    group by 1, 2
) as run
where (daily.day, daily.agent_id) = (run.day, run.agent_id);
"""

_DOWNGRADE = """
alter table agentmill.agent_metrics_daily
    drop column first_at,
    drop column last_at;
drop index agentmill.user_activity_daily_user_key_agent_id_idx, agentmill.user_activity_daily_agent_id_user_key_idx;
alter table agentmill.user_activity_daily
    drop column credited_count,
    drop column credits,
    drop column execution_types,
    drop column quarters,
    drop column quarter_counts;
drop table agentmill.privacy_policy;
drop schema compat;
"""


def upgrade() -> None:
    """Add them, filled from the executions there are; days whose executions were dropped tell no times and types."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop them. The policy comes from the configuration, the rest from running days again."""
    op.execute(_DOWNGRADE)
