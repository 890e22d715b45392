-- One row per user and agent: what the user ran, when and at what cost, said last, and did in an older application.
-- Readers who may not see single users see the agents with enough users only; hidden_groups tells how much that leaves out.
-- Of times they see the day: an exact one would name the execution, and with it everything that the pseudonym hides.
with pair as (
    select user_key, agent_id from agentmill.user_activity_daily
    union
    select user_key, agent_id from agentmill.user_agent_preferences
    union
    select user_key, agent_id from agentmill.interaction_history
),

activity as (
    select
        user_key,
        agent_id,
        sum(execution_count)::bigint as execution_count,
        sum(success_count)::bigint as success_count,
        sum(failure_count)::bigint as failure_count,
        count(*) as active_days,
        max(day) - min(day) + 1 as days_between,
        min(first_at) as first_execution_at,
        max(last_at) as last_execution_at,
        sum(credited_count)::bigint as credited_count,
        sum(credits) as credits
    from agentmill.user_activity_daily
    group by user_key, agent_id
),

quarter_of_day as not materialized (
    select
        user_key,
        agent_id,
        (day + quarter * interval '15 minutes') at time zone 'UTC' at time zone agentmill.reporting_timezone() as local_time,
        used.execution_count
    from agentmill.user_activity_daily
    cross join lateral unnest(quarters, quarter_counts) as used (quarter, execution_count)
),

-- Of equally busy hours the earliest is told, of equally busy weekdays the one nearest to Monday.
busiest_hour as (
    select distinct on (user_key, agent_id) user_key, agent_id, hour
    from (
        select user_key, agent_id, extract(hour from local_time)::integer as hour, sum(execution_count) as execution_count
        from quarter_of_day
        group by 1, 2, 3
    ) as by_hour
    order by user_key, agent_id, execution_count desc, hour
),

busiest_weekday as (
    select distinct on (user_key, agent_id) user_key, agent_id, weekday
    from (
        select user_key, agent_id, extract(isodow from local_time)::integer as weekday, sum(execution_count) as execution_count
        from quarter_of_day
        group by 1, 2, 3
    ) as by_weekday
    order by user_key, agent_id, execution_count desc, weekday
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
    pair.user_key,
    pair.agent_id,
    coalesce(activity.execution_count, 0) as execution_count,
    coalesce(activity.success_count, 0) as success_count,
    coalesce(activity.failure_count, 0) as failure_count,
    coalesce(activity.active_days, 0) as active_days,
    activity.execution_count::double precision / activity.active_days as executions_per_active_day,
    activity.execution_count::double precision / activity.days_between as executions_per_day,
    date_trunc(told.unit, activity.first_execution_at, 'UTC') as first_execution_at,
    date_trunc(told.unit, activity.last_execution_at, 'UTC') as last_execution_at,
    busiest_hour.hour as preferred_hour,
    busiest_weekday.weekday as preferred_weekday,
    coalesce(activity.credited_count, 0) as credited_count,
    activity.credits,
    preference.is_favorite,
    rated.rating,
    preference.feedback,
    date_trunc(told.unit, preference.said_at, 'UTC') as said_at,
    coalesce(history.legacy_transaction_count, 0) as legacy_transaction_count,
    date_trunc(told.unit, history.first_legacy_transaction_at, 'UTC') as first_legacy_transaction_at,
    date_trunc(told.unit, history.last_legacy_transaction_at, 'UTC') as last_legacy_transaction_at
from pair
left join activity using (user_key, agent_id)
left join busiest_hour using (user_key, agent_id)
left join busiest_weekday using (user_key, agent_id)
left join preference using (user_key, agent_id)
left join agentmill.user_agent_ratings as rated using (user_key, agent_id)
left join history using (user_key, agent_id)
cross join (select case when agentmill.sees_single_users() then 'microseconds' else 'day' end as unit) as told
where
    (select agentmill.sees_single_users())
    or pair.agent_id in (select agent_id from agentmill.agent_user_counts where is_shown)
