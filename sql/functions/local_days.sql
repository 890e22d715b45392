-- One row per day of the reporting time zone that the rollups reach: its first instant and the first after it.
-- Strict, so that it is not inlined and the planner believes the number of rows.
create function agentmill.local_days()
returns table (day date, starts_at timestamptz, ends_at timestamptz, is_whole_hours boolean)
language sql stable strict parallel safe rows 30
as $$
    with zone as materialized (
        select agentmill.reporting_timezone() as name
    ),

    midnight as (
        -- Where clocks go back over midnight there are two of them, and `at time zone` gives the later.
        select
            reached.day::date as day,
            given.at - greatest(
                ((given.at - interval '1 microsecond') at time zone zone.name) + interval '1 microsecond' - reached.day,
                interval '0'
            ) as at
        from zone
        cross join (
            select (min(day) - 1)::timestamp as first, (max(day) + 2)::timestamp as last
            from agentmill.execution_rollup_daily
        ) as rolled_up
        cross join generate_series(rolled_up.first, rolled_up.last, interval '1 day') as reached (day)
        cross join lateral (select reached.day at time zone zone.name as at) as given
    ),

    days as (
        select day, at as starts_at, lead(at) over (order by day) as ends_at
        from midnight
    )

    select
        day,
        starts_at,
        ends_at,
        starts_at = date_trunc('hour', starts_at, 'UTC') and ends_at = date_trunc('hour', ends_at, 'UTC')
    from days
    where ends_at > starts_at
$$;
