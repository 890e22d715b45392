-- One row per weekday (1 is Monday) and hour of the reporting time zone over a range of days (the last 28 that are over by default).
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
    -- Asked for as scalars, a range finds its days by index; joined, all days would be read.
    with asked as materialized (
        select days.*
        from (select max(day) + 1 as to_day from agentmill.published_days where is_final) as over
        cross join lateral agentmill.reporting_days($1, coalesce($2, over.to_day), 28) as days
    ),

    days as (
        select extract(isodow from loaded.day)::integer as weekday, count(*) as day_count
        from agentmill.published_days as loaded
        where loaded.day >= (select from_day from asked) and loaded.day < (select to_day from asked)
        group by 1
    ),

    -- In UTC there are hours of agents: few rows.
    held as (
        select
            hourly.day,
            extract(isodow from hourly.day)::integer as weekday,
            extract(hour from hourly.hour at time zone 'UTC')::integer as hour_of_day,
            hourly.execution_count,
            hourly.failure_count
        from agentmill.agent_metrics_hourly as hourly
        where agentmill.reporting_timezone() = 'UTC'
        union all
        select
            cube.day,
            cube.weekday,
            cube.hour_of_day,
            cube.execution_count,
            case when cube.status in ('failed', 'timeout', 'error') then cube.execution_count else 0 end
        from agentmill.execution_rollup_local_hourly as cube
        where agentmill.reporting_timezone() <> 'UTC'
    ),

    counted as (
        select
            held.weekday,
            held.hour_of_day,
            sum(held.execution_count)::bigint as execution_count,
            sum(held.failure_count)::bigint as failure_count
        from held
        where held.day >= (select from_day from asked) and held.day < (select to_day from asked)
        group by held.weekday, held.hour_of_day
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
