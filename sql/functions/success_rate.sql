-- One row: how often an agent (id or name; null for all) succeeded at a type of work (null for any) in a range of days.
-- By default the last 30. Percentages have two decimals; the interval is Wilson's, 95 %. Null where nothing ran.
create function agentmill.success_rate(
    agent text, execution_type text, from_day date default null, to_day date default null
)
returns table (
    execution_count bigint,
    success_count bigint,
    partial_count bigint,
    failure_count bigint,
    success_rate_pct numeric,
    success_rate_low_pct numeric,
    success_rate_high_pct numeric,
    success_rate_with_partial_pct numeric,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel safe
as $$
    -- Asked for as scalars, a range finds its days by index; joined, all days would be read.
    with asked as materialized (
        select * from agentmill.reporting_days($3, $4)
    ),

    total as (
        select
            coalesce(sum(cube.execution_count), 0)::bigint as execution_count,
            coalesce(sum(cube.execution_count) filter (where cube.status = 'success'), 0)::bigint as success_count,
            coalesce(sum(cube.execution_count) filter (where cube.status = 'partial'), 0)::bigint as partial_count,
            coalesce(sum(cube.execution_count) filter (where cube.status in ('failed', 'timeout', 'error')), 0)::bigint
                as failure_count
        from agentmill.execution_rollup_local_daily as cube
        where cube.day >= (select from_day from asked) and cube.day < (select to_day from asked)
            and ($2 is null or cube.execution_type = $2)
            and ($1 is null or cube.agent_id in (
                select named.agent_id from agentmill.agent_metrics_daily as named
                where named.agent_id = $1 or named.agent_name = $1
            ))
    )

    select
        total.execution_count,
        total.success_count,
        total.partial_count,
        total.failure_count,
        round(100.0 * total.success_count / nullif(total.execution_count, 0), 2),
        round((100 * wilson.low)::numeric, 2),
        round((100 * wilson.high)::numeric, 2),
        round(100.0 * (total.success_count + total.partial_count) / nullif(total.execution_count, 0), 2),
        published.published_at,
        published.is_final
    from total
    cross join asked
    cross join lateral agentmill.wilson_interval(total.success_count, total.execution_count) as wilson
    left join lateral agentmill.published_range(asked.from_day, asked.to_day) as published on true
$$;
