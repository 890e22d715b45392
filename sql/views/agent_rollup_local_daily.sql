-- One row per agent and day of the reporting time zone: what adds up over days, sketches included.
select
    day, agent_id, execution_count, success_count, partial_count, failure_count,
    duration_count, duration_sketch, priced_count, cost_usd, credits, metered_count, input_tokens, cache_read_tokens
from agentmill.agent_metrics_daily
where agentmill.reporting_timezone() = 'UTC'

union all

select
    day,
    agent_id,
    sum(execution_count)::bigint,
    coalesce(sum(execution_count) filter (where status = 'success'), 0)::bigint,
    coalesce(sum(execution_count) filter (where status = 'partial'), 0)::bigint,
    coalesce(sum(execution_count) filter (where status in ('failed', 'timeout', 'error')), 0)::bigint,
    sum(duration_count)::bigint,
    agentmill.sketch_merge(duration_sketch),
    sum(priced_count)::bigint,
    sum(cost_usd),
    sum(credits),
    sum(metered_count)::bigint,
    sum(input_tokens)::bigint,
    sum(cache_read_tokens)::bigint
from agentmill.execution_rollup_local_daily
where agentmill.reporting_timezone() <> 'UTC'
group by day, agent_id
