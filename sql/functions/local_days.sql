-- One row per day of the reporting time zone that the rollups reach: its first instant and the first after it.
-- Days of an outage after the last execution are among them.
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
            select
                (rolled_up.first_day - 1)::timestamp as first,
                (greatest(rolled_up.last_day, loaded.last_day) + 2)::timestamp as last
            from (
                select min(day) as first_day, max(day) as last_day
                from agentmill.execution_rollup_daily
            ) as rolled_up
            cross join (
                select max(day) as last_day
                from agentmill.load_ledger
                where table_name = 'execution_rollup_daily'
            ) as loaded
        ) as reach
        cross join generate_series(reach.first, reach.last, interval '1 day') as reached (day)
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
