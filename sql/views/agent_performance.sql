-- One row per UTC day and agent: volume, success with its interval, latency and cost, each beside its sample size.
select
    day,
    agent_id,
    agent_name,
    execution_count,
    success_rate,
    greatest(0, (success_rate + z2 / (2 * execution_count) - margin) / (1 + z2 / execution_count)) as success_rate_low,
    least(1, (success_rate + z2 / (2 * execution_count) + margin) / (1 + z2 / execution_count)) as success_rate_high,
    success_rate_with_partial,
    failure_count,
    user_count,
    duration_count,
    duration_p50_ms,
    duration_p95_ms,
    duration_p99_ms,
    priced_count,
    unpriced_count,
    cost_usd,
    cost_usd / nullif(priced_count, 0) as cost_per_run_usd,
    cost_usd / nullif(success_count, 0) as cost_per_success_usd,
    metered_count,
    cache_read_tokens::double precision / nullif(input_tokens, 0) as cache_hit_rate_tokens
from agentmill.agent_metrics_daily
cross join lateral (
    -- Wilson score interval, 95 %: E. B. Wilson, JASA 22 (1927)
    select
        3.841458820694124 as z2,
        sqrt(3.841458820694124 * (
            success_rate * (1 - success_rate) / execution_count
            + 3.841458820694124 / (4.0 * execution_count * execution_count)
        )) as margin
) as wilson
