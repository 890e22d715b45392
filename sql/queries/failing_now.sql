-- What fails in the last hour that has data?
-- Asked by: on-call
-- Why: The first look when an alert comes.
-- Read it: An agent with a low interval below 50 % and at least 5 runs is in trouble.
select
    hour,
    agent_name,
    execution_count,
    failure_count,
    round(100 * success_rate::numeric, 2) as success_pct,
    round(100 * wilson.low::numeric, 2) as success_pct_low
from agentmill.agent_metrics_hourly
cross join lateral agentmill.wilson_interval(success_count, execution_count) as wilson
where hour = (select max(hour) from agentmill.agent_metrics_hourly)
order by success_rate, execution_count desc, agent_name
