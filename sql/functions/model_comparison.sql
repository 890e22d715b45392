-- One row per provider and model over a range of days (the last 30 by default): its use, speed, cost and success.
create function agentmill.model_comparison(from_day date default null, to_day date default null)
returns table (
    provider text,
    model text,
    execution_count bigint,
    execution_share double precision,
    success_count bigint,
    failure_count bigint,
    success_rate double precision,
    success_rate_low double precision,
    success_rate_high double precision,
    duration_count bigint,
    duration_p50_ms double precision,
    duration_p95_ms double precision,
    duration_p99_ms double precision,
    priced_count bigint,
    unpriced_count bigint,
    cost_usd numeric,
    cost_per_run_usd numeric,
    cost_per_success_usd numeric,
    metered_count bigint,
    input_tokens_per_run double precision,
    cache_hit_rate_tokens double precision,
    from_day date,
    to_day date,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel safe
as $$
    -- Asked for as scalars, a range finds its days by index; joined, all days would be read.
    with asked as materialized (
        select * from agentmill.reporting_days($1, $2)
    ),

    total as (
        select
            cube.provider,
            cube.model,
            sum(cube.execution_count)::bigint as execution_count,
            coalesce(sum(cube.execution_count) filter (where cube.status = 'success'), 0)::bigint as success_count,
            coalesce(sum(cube.execution_count) filter (where cube.status in ('failed', 'timeout', 'error')), 0)::bigint
                as failure_count,
            sum(cube.duration_count)::bigint as duration_count,
            sum(cube.priced_count)::bigint as priced_count,
            sum(cube.cost_usd) as cost_usd,
            sum(cube.metered_count)::bigint as metered_count,
            sum(cube.input_tokens) as input_tokens,
            sum(cube.cache_read_tokens) as cache_read_tokens
        from agentmill.execution_rollup_local_daily as cube
        where cube.day >= (select from_day from asked) and cube.day < (select to_day from asked)
        group by cube.provider, cube.model
    ),

    -- In UTC there are sketches of whole days and models: few rows.
    sketched as (
        select provider, model, agentmill.sketch_merge(duration_sketch) as duration_sketch
        from (
            select day, provider, model, duration_sketch
            from agentmill.model_metrics_daily
            where agentmill.reporting_timezone() = 'UTC'
            union all
            select day, provider, model, duration_sketch
            from agentmill.execution_rollup_local_daily
            where agentmill.reporting_timezone() <> 'UTC'
        ) as held
        where day >= (select from_day from asked) and day < (select to_day from asked)
        group by provider, model
    )

    select
        total.provider,
        total.model,
        total.execution_count,
        (total.execution_count / sum(total.execution_count) over ())::double precision,
        total.success_count,
        total.failure_count,
        total.success_count::double precision / total.execution_count,
        wilson.low,
        wilson.high,
        total.duration_count,
        agentmill.sketch_percentile(sketched.duration_sketch, 50, total.duration_count),
        agentmill.sketch_percentile(sketched.duration_sketch, 95, total.duration_count),
        agentmill.sketch_percentile(sketched.duration_sketch, 99, total.duration_count),
        total.priced_count,
        total.execution_count - total.priced_count,
        total.cost_usd,
        total.cost_usd / nullif(total.priced_count, 0),
        total.cost_usd / nullif(total.success_count, 0),
        total.metered_count,
        (total.input_tokens / nullif(total.metered_count, 0))::double precision,
        (total.cache_read_tokens / nullif(total.input_tokens, 0))::double precision,
        asked.from_day,
        asked.to_day,
        published.published_at,
        published.is_final
    from total
    left join sketched
        on sketched.provider is not distinct from total.provider and sketched.model is not distinct from total.model
    cross join asked
    cross join lateral agentmill.wilson_interval(total.success_count, total.execution_count) as wilson
    cross join lateral agentmill.published_range(asked.from_day, asked.to_day) as published
$$;
