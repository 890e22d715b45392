-- One row per day of the reporting time zone, provider, model and status: volume, latency, tokens and cost.
select
    cube.day,
    cube.provider,
    cube.model,
    cube.status,
    sum(cube.execution_count)::bigint as execution_count,
    sum(cube.duration_count)::bigint as duration_count,
    (sum(cube.duration_sum_ms) / nullif(sum(cube.duration_count), 0))::double precision as duration_avg_ms,
    sum(cube.priced_count)::bigint as priced_count,
    sum(cube.cost_usd) as cost_usd,
    sum(cube.metered_count)::bigint as metered_count,
    sum(cube.input_tokens)::bigint as input_tokens,
    sum(cube.cache_read_tokens)::bigint as cache_read_tokens,
    sum(cube.cache_write_tokens)::bigint as cache_write_tokens,
    sum(cube.output_tokens)::bigint as output_tokens,
    sum(cube.llm_calls)::bigint as llm_calls,
    sum(cube.files_modified)::bigint as files_modified,
    published.published_at,
    published.is_final
from agentmill.execution_rollup_local_daily as cube
left join agentmill.published_days as published using (day)
group by cube.day, cube.provider, cube.model, cube.status, published.published_at, published.is_final
