-- How long do users wait for each agent?
-- Asked by: analysts
-- Why: To find what to make faster.
-- Read it: Percentiles of the last day; null below their sample, which is 20 runs for p95 and 100 for p99.
select
    agent_name, duration_count, duration_p50_ms::bigint, duration_p95_ms::bigint, duration_p99_ms::bigint
from agentmill.agent_metrics_daily
where day = (select max(day) from agentmill.agent_metrics_daily)
order by duration_p95_ms desc nulls last, agent_name
