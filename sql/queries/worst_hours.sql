-- Which hours went wrong, and for whom?
-- Asked by: on-call
-- Why: To find when an incident began and ended.
-- Read it: Hours of at least 10 runs in which more than a quarter failed, the latest first.
select hour, agent_name, execution_count, failure_count, round(100.0 * failure_count / execution_count, 1) as failure_pct
from agentmill.agent_metrics_hourly
where execution_count >= 10 and failure_count > 0.25 * execution_count
order by hour desc, failure_count desc, agent_name
limit 20
