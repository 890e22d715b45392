-- One row per agent and user from one instant to another (half-open): exact as long as executions are kept.
-- Whole UTC days are read from `user_activity_daily`, the rest of the range from `executions`.
create function agentmill.agent_users(from_time timestamptz, to_time timestamptz)
returns table (agent_id text, user_key text)
language sql stable parallel safe
as $$
    with whole as materialized (
        select
            date_trunc('day', from_time + interval '24 hours' - interval '1 microsecond', 'UTC') as starts_at,
            date_trunc('day', to_time, 'UTC') as ends_at
    )

    select active.agent_id, active.user_key
    from agentmill.user_activity_daily as active, whole
    where active.day >= (whole.starts_at at time zone 'UTC')::date
        and active.day < (whole.ends_at at time zone 'UTC')::date
    union
    select ran.agent_id, ran.user_key
    from agentmill.executions as ran, whole
    where ran.event_time >= from_time and ran.event_time < least(to_time, whole.starts_at) and ran.user_key is not null
    union
    select ran.agent_id, ran.user_key
    from agentmill.executions as ran, whole
    where ran.event_time >= greatest(whole.starts_at, whole.ends_at) and ran.event_time < to_time
        and ran.user_key is not null
$$;
