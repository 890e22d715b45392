-- One row per combination of the dimensions in `by`: volume, success, latency, cost and tokens of a range of days.
-- Days, weeks (from Monday) and hours are those of the reporting time zone; a dimension that is not asked for is null.
create function agentmill.performance(from_day date, to_day date, by text[] default '{agent_id}')
returns table (
    day date,
    week date,
    hour_of_day integer,
    weekday integer,
    agent_id text,
    agent_version text,
    environment text,
    execution_type text,
    provider text,
    model text,
    status text,
    failure_category text,
    execution_count bigint,
    success_count bigint,
    partial_count bigint,
    failure_count bigint,
    success_rate double precision,
    success_rate_low double precision,
    success_rate_high double precision,
    success_rate_with_partial double precision,
    duration_count bigint,
    duration_avg_ms double precision,
    duration_p50_ms double precision,
    duration_p95_ms double precision,
    duration_p99_ms double precision,
    ttft_count bigint,
    ttft_p50_ms double precision,
    ttft_p95_ms double precision,
    priced_count bigint,
    unpriced_count bigint,
    cost_usd numeric,
    cost_per_run_usd numeric,
    cost_per_success_usd numeric,
    credits numeric,
    metered_count bigint,
    input_tokens bigint,
    cache_read_tokens bigint,
    output_tokens bigint,
    cache_hit_rate_tokens double precision,
    cache_hit_rate_runs double precision,
    published_at timestamptz,
    is_final boolean
)
language plpgsql stable parallel safe
set work_mem = '64MB' -- cells of a long range are sorted in memory
as $$
#variable_conflict use_column
declare
    known constant text[] := array[
        'day', 'week', 'hour_of_day', 'weekday', 'agent_id', 'agent_version', 'environment', 'execution_type',
        'provider', 'model', 'status', 'failure_category'
    ];
    unknown constant text[] := array(select unnest(by) except select unnest(known));
    is_utc constant boolean := agentmill.reporting_timezone() = 'UTC';
    -- In UTC there are sketches of whole days of agents, and of models: few rows to merge.
    is_by_agent constant boolean := is_utc and by <@ '{day,week,weekday,agent_id}';
    is_by_model constant boolean := is_utc and not is_by_agent and by <@ '{day,week,weekday,provider,model}';
begin
    if unknown <> '{}' then
        raise exception 'performance cannot be told by %', array_to_string(unknown, ', ')
            using hint = 'Dimensions: ' || array_to_string(known, ', ');
    end if;
    return query
    with cell as (
        select
            day, null::integer as hour_of_day, agent_id, agent_version, environment, execution_type, provider, model,
            status, failure_category, execution_count, duration_count, duration_sum_ms,
            case when not is_by_agent and not is_by_model then duration_sketch end as duration_sketch, ttft_count,
            case when not is_by_agent and not is_by_model then ttft_sketch end as ttft_sketch,
            priced_count, cost_usd, credits, metered_count, input_tokens, cache_read_tokens,
            output_tokens, cache_read_count
        from agentmill.execution_rollup_local_daily
        where 'hour_of_day' <> all(by) and day >= from_day and day < to_day
        union all
        select
            day, null, agent_id, null, null, null, null, null, null, null, 0, 0, null, duration_sketch, 0, ttft_sketch,
            0, null, null, 0, null, null, null, 0
        from agentmill.agent_metrics_daily
        where is_by_agent and day >= from_day and day < to_day
        union all
        select
            day, null, null, null, null, null, provider, model, null, null, 0, 0, null, duration_sketch, 0, ttft_sketch,
            0, null, null, 0, null, null, null, 0
        from agentmill.model_metrics_daily
        where is_by_model and day >= from_day and day < to_day
        union all
        select
            day, hour_of_day, agent_id, agent_version, environment, execution_type, provider, model,
            status, failure_category, execution_count, duration_count, duration_sum_ms, duration_sketch, ttft_count,
            ttft_sketch, priced_count, cost_usd, credits, metered_count, input_tokens, cache_read_tokens,
            output_tokens, cache_read_count
        from agentmill.execution_rollup_local_hourly
        where 'hour_of_day' = any(by) and day >= from_day and day < to_day
    ),

    total as (
        select
            case when 'day' = any(by) then day end as day,
            case when 'week' = any(by) then day - extract(isodow from day)::integer + 1 end as week,
            hour_of_day,
            case when 'weekday' = any(by) then extract(isodow from day)::integer end as weekday,
            case when 'agent_id' = any(by) then agent_id end as agent_id,
            case when 'agent_version' = any(by) then agent_version end as agent_version,
            case when 'environment' = any(by) then environment end as environment,
            case when 'execution_type' = any(by) then execution_type end as execution_type,
            case when 'provider' = any(by) then provider end as provider,
            case when 'model' = any(by) then model end as model,
            case when 'status' = any(by) then status end as status,
            case when 'failure_category' = any(by) then failure_category end as failure_category,
            sum(execution_count)::bigint as execution_count,
            coalesce(sum(execution_count) filter (where status = 'success'), 0)::bigint as success_count,
            coalesce(sum(execution_count) filter (where status = 'partial'), 0)::bigint as partial_count,
            coalesce(sum(execution_count) filter (where status in ('failed', 'timeout', 'error')), 0)::bigint
                as failure_count,
            sum(duration_count)::bigint as duration_count,
            sum(duration_sum_ms) as duration_sum_ms,
            agentmill.sketch_merge(duration_sketch) filter (where duration_sketch is not null) as duration_sketch,
            sum(ttft_count)::bigint as ttft_count,
            agentmill.sketch_merge(ttft_sketch) filter (where ttft_sketch is not null) as ttft_sketch,
            sum(priced_count)::bigint as priced_count,
            sum(cost_usd) as cost_usd,
            sum(credits) as credits,
            sum(metered_count)::bigint as metered_count,
            sum(input_tokens)::bigint as input_tokens,
            sum(cache_read_tokens)::bigint as cache_read_tokens,
            sum(output_tokens)::bigint as output_tokens,
            sum(cache_read_count)::bigint as cache_read_count
        from cell
        group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    )

    select
        day, week, hour_of_day, weekday, agent_id, agent_version, environment, execution_type, provider, model, status,
        failure_category,
        execution_count, success_count, partial_count, failure_count,
        success_count::double precision / execution_count,
        wilson.low,
        wilson.high,
        (success_count + partial_count)::double precision / execution_count,
        duration_count,
        (duration_sum_ms / nullif(duration_count, 0))::double precision,
        agentmill.sketch_percentile(duration_sketch, 50, duration_count),
        agentmill.sketch_percentile(duration_sketch, 95, duration_count),
        agentmill.sketch_percentile(duration_sketch, 99, duration_count),
        ttft_count,
        agentmill.sketch_percentile(ttft_sketch, 50, ttft_count),
        agentmill.sketch_percentile(ttft_sketch, 95, ttft_count),
        priced_count,
        execution_count - priced_count,
        cost_usd,
        cost_usd / nullif(priced_count, 0),
        cost_usd / nullif(success_count, 0),
        credits,
        metered_count, input_tokens, cache_read_tokens, output_tokens,
        cache_read_tokens::double precision / nullif(input_tokens, 0),
        cache_read_count::double precision / nullif(metered_count, 0),
        published.published_at,
        published.is_final
    from total
    cross join lateral agentmill.wilson_interval(success_count, execution_count) as wilson
    cross join lateral agentmill.published_range(from_day, to_day) as published;
end
$$;
