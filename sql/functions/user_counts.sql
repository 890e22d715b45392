-- One row per agent, and one for all (agent null): its distinct users from one instant to another (half-open), exactly.
-- Whole UTC days are read from `user_activity_daily`, the rest of the range from `executions` as long as they are kept.
-- It reads pseudonyms for readers who may not see them. Whoever may not see single users is told of whole days, UTC or of
-- the reporting time zone, and of groups that are large enough: else the count is null.
create function agentmill.user_counts(from_time timestamptz, to_time timestamptz)
returns table (agent_id text, user_count bigint)
language sql stable parallel restricted security definer set search_path = pg_catalog
as $$
    with whole as materialized (
        select
            date_trunc('day', from_time + interval '24 hours' - interval '1 microsecond', 'UTC') as starts_at,
            date_trunc('day', to_time, 'UTC') as ends_at
    ),

    seen as (
        select active.agent_id, active.user_key
        from agentmill.user_activity_daily as active, whole
        where active.day >= (whole.starts_at at time zone 'UTC')::date
            and active.day < (whole.ends_at at time zone 'UTC')::date
        union
        select ran.agent_id, ran.user_key
        from agentmill.executions as ran, whole
        where ran.event_time >= from_time and ran.event_time < least(to_time, whole.starts_at)
            and ran.user_key is not null
        union
        select ran.agent_id, ran.user_key
        from agentmill.executions as ran, whole
        where ran.event_time >= greatest(whole.starts_at, whole.ends_at) and ran.event_time < to_time
            and ran.user_key is not null
    ),

    counted as (
        select seen.agent_id, count(*) as user_count from seen group by seen.agent_id
        union all
        select null, count(distinct seen.user_key) from seen
    ),

    -- The current user is the owner here; who asks is the role that was set, else who logged in.
    asked as materialized (
        select
            agentmill.sees_single_users(
                case current_setting('role') when 'none' then session_user else current_setting('role')::name end
            ) as sees_all,
            exists (
                select
                from unnest(array['UTC', agentmill.reporting_timezone()]) as zone (name)
                where date_trunc('day', from_time, zone.name) = from_time and date_trunc('day', to_time, zone.name) = to_time
            ) as is_whole_days,
            agentmill.minimum_group_size() as minimum
    )

    select
        counted.agent_id,
        case
            when asked.sees_all or counted.user_count = 0 or (asked.is_whole_days and counted.user_count >= asked.minimum)
                then counted.user_count
        end
    from counted
    cross join asked
$$;
