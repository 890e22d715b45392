-- One row per user and agent: what the user ran, what the user said last, and what an older application knew of both.
with activity as (
    select
        user_key,
        agent_id,
        sum(execution_count)::bigint as execution_count,
        sum(success_count)::bigint as success_count,
        sum(failure_count)::bigint as failure_count,
        count(*) as active_days,
        min(first_at) as first_execution_at,
        max(last_at) as last_execution_at
    from agentmill.user_activity_daily
    group by user_key, agent_id
),

latest as (
    select distinct on (user_key, agent_id, source) *
    from agentmill.user_agent_preferences
    order by user_key, agent_id, source, event_time desc, row_hash
),

preference as (
    -- Sources may tell different things: of each, the latest word that there is.
    select
        user_key,
        agent_id,
        (array_agg(is_favorite order by event_time desc, source) filter (where is_favorite is not null))[1] as is_favorite,
        (array_agg(rating order by event_time desc, source) filter (where rating is not null))[1] as rating,
        (array_agg(feedback order by event_time desc, source) filter (where feedback is not null))[1] as feedback,
        max(event_time) as said_at
    from latest
    group by user_key, agent_id
),

history as (
    select
        user_key,
        agent_id,
        count(*) as legacy_transaction_count,
        min(occurred_at) as first_legacy_transaction_at,
        max(occurred_at) as last_legacy_transaction_at
    from agentmill.interaction_history
    group by user_key, agent_id
)

select
    user_key,
    agent_id,
    coalesce(execution_count, 0) as execution_count,
    coalesce(success_count, 0) as success_count,
    coalesce(failure_count, 0) as failure_count,
    coalesce(active_days, 0) as active_days,
    execution_count::double precision / active_days as executions_per_active_day,
    first_execution_at,
    last_execution_at,
    is_favorite,
    rating,
    feedback,
    said_at,
    coalesce(legacy_transaction_count, 0) as legacy_transaction_count,
    first_legacy_transaction_at,
    last_legacy_transaction_at
from activity
full join preference using (user_key, agent_id)
full join history using (user_key, agent_id)
