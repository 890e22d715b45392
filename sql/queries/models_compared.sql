-- Which model serves an agent best?
-- Asked by: analysts
-- Why: To choose a model by evidence.
-- Read it: Models of one agent may get different work: a difference is a reason to test, not yet a proof.
select
    agent_id,
    model,
    sum(execution_count) as execution_count,
    round(100.0 * coalesce(sum(execution_count) filter (where status = 'success'), 0) / sum(execution_count), 2)
        as success_pct,
    (sum(duration_sum_ms) / nullif(sum(duration_count), 0))::bigint as duration_avg_ms,
    round(sum(cost_usd) / nullif(sum(priced_count), 0), 5) as cost_per_run_usd
from agentmill.execution_rollup_hourly
group by agent_id, model
order by agent_id, execution_count desc
