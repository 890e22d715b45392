-- One row per agent and day of the reporting time zone: volume, success with its interval, latency and cost.
-- Exact in UTC; in another zone percentiles are within 1 %, and users are told by `user_count(...)`.
select
    told.day,
    told.agent_id,
    name.agent_name,
    told.execution_count,
    told.success_count,
    told.success_count::double precision / told.execution_count as success_rate,
    wilson.low as success_rate_low,
    wilson.high as success_rate_high,
    (told.success_count + told.partial_count)::double precision / told.execution_count as success_rate_with_partial,
    told.failure_count,
    exact.user_count,
    told.duration_count,
    coalesce(exact.duration_p50_ms, agentmill.sketch_percentile(told.duration_sketch, 50, told.duration_count)) as duration_p50_ms,
    coalesce(exact.duration_p95_ms, agentmill.sketch_percentile(told.duration_sketch, 95, told.duration_count)) as duration_p95_ms,
    coalesce(exact.duration_p99_ms, agentmill.sketch_percentile(told.duration_sketch, 99, told.duration_count)) as duration_p99_ms,
    told.priced_count,
    told.execution_count - told.priced_count as unpriced_count,
    told.cost_usd,
    told.cost_usd / nullif(told.priced_count, 0) as cost_per_run_usd,
    told.cost_usd / nullif(told.success_count, 0) as cost_per_success_usd,
    told.metered_count,
    told.cache_read_tokens::double precision / nullif(told.input_tokens, 0) as cache_hit_rate_tokens,
    published.published_at,
    published.is_final
from agentmill.agent_rollup_local_daily as told
left join agentmill.agent_metrics_daily as exact
    on exact.day = told.day and exact.agent_id = told.agent_id and agentmill.reporting_timezone() = 'UTC'
left join agentmill.agent_names as name on name.agent_id = told.agent_id
left join agentmill.published_days as published on published.day = told.day
cross join lateral agentmill.wilson_interval(told.success_count, told.execution_count) as wilson
