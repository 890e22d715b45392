-- Distinct users from one instant to another (half-open), of one agent or of all: exact as long as executions are kept.
-- Whole UTC days are read from `user_activity_daily`, the rest of the range from `executions`.
create function agentmill.user_count(from_time timestamptz, to_time timestamptz, agent text default null) returns bigint
language sql stable parallel safe
as $$
    with whole as materialized (
        select
            date_trunc('day', from_time + interval '1 day' - interval '1 microsecond', 'UTC') as starts_at,
            date_trunc('day', to_time, 'UTC') as ends_at
    ),

    seen as (
        select user_key
        from agentmill.user_activity_daily, whole
        where day >= (whole.starts_at at time zone 'UTC')::date and day < (whole.ends_at at time zone 'UTC')::date
            and (agent is null or agent_id = agent)
        union
        select user_key
        from agentmill.executions, whole
        where event_time >= from_time and event_time < least(to_time, whole.starts_at)
            and user_key is not null and (agent is null or agent_id = agent)
        union
        select user_key
        from agentmill.executions, whole
        where event_time >= greatest(whole.starts_at, whole.ends_at) and event_time < to_time
            and user_key is not null and (agent is null or agent_id = agent)
    )

    select count(*) from seen
$$;
