-- One row per weekday (1 is Monday) and hour of the reporting time zone over a range of days (the last 28 by default).
create function agentmill.usage_peaks(from_day date default null, to_day date default null)
returns table (
    weekday integer,
    hour_of_day integer,
    execution_count bigint,
    day_count bigint,
    executions_per_day double precision,
    execution_share double precision,
    failure_count bigint,
    failure_rate double precision,
    from_day date,
    to_day date,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel safe
as $$
    with asked as materialized (
        select * from agentmill.reporting_days($1, $2, 28)
    ),

    days as (
        select extract(isodow from loaded.day)::integer as weekday, count(*) as day_count
        from agentmill.published_days as loaded, asked
        where loaded.day >= asked.from_day and loaded.day < asked.to_day
        group by 1
    ),

    counted as (
        select
            cube.weekday,
            cube.hour_of_day,
            sum(cube.execution_count)::bigint as execution_count,
            coalesce(sum(cube.execution_count) filter (where cube.status in ('failed', 'timeout', 'error')), 0)::bigint
                as failure_count
        from agentmill.execution_rollup_local_hourly as cube, asked
        where cube.day >= asked.from_day and cube.day < asked.to_day
        group by cube.weekday, cube.hour_of_day
    )

    select
        days.weekday,
        clock.hour_of_day,
        coalesce(counted.execution_count, 0),
        days.day_count,
        coalesce(counted.execution_count, 0)::double precision / days.day_count,
        (coalesce(counted.execution_count, 0) / nullif(sum(counted.execution_count) over (), 0))::double precision,
        coalesce(counted.failure_count, 0),
        counted.failure_count::double precision / counted.execution_count,
        asked.from_day,
        asked.to_day,
        published.published_at,
        published.is_final
    from days
    cross join generate_series(0, 23) as clock (hour_of_day)
    left join counted using (weekday, hour_of_day)
    cross join asked
    cross join lateral agentmill.published_range(asked.from_day, asked.to_day) as published
    order by 1, 2
$$;
