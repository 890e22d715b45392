-- One row per hour that clocks of the reporting time zone show between two instants; cut or repeated ones are apart.
-- Strict, so that it is not inlined and the planner believes the number of rows.
create function agentmill.local_hours(from_time timestamptz, to_time timestamptz)
returns table (starts_at timestamptz, ends_at timestamptz, hour_of_day integer, is_whole_hour boolean)
language sql stable strict parallel safe rows 24
as $$
    with zone as materialized (
        select agentmill.reporting_timezone() as name
    ),

    clock as (
        select at, at at time zone zone.name as shows, (at - interval '15 minutes') at time zone zone.name as showed
        from zone, generate_series(from_time, to_time - interval '15 minutes', interval '15 minutes') as at
    ),

    hours as (
        select at as starts_at, lead(at, 1, to_time) over (order by at) as ends_at, shows
        from clock
        where at = from_time or extract(minute from shows) = 0 or shows - showed <> interval '15 minutes'
    )

    select
        starts_at,
        ends_at,
        extract(hour from shows)::integer,
        starts_at = date_trunc('hour', starts_at, 'UTC') and ends_at = date_trunc('hour', ends_at, 'UTC')
    from hours
$$;
