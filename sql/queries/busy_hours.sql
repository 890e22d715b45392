-- When is the system busy?
-- Asked by: analysts
-- Why: To plan capacity and maintenance.
-- Read it: Runs by weekday (1 is Monday) and hour, UTC, over all days there are.
select
    extract(isodow from hour at time zone 'UTC')::integer as weekday,
    extract(hour from hour at time zone 'UTC')::integer as hour_of_day,
    sum(execution_count) as execution_count,
    sum(failure_count) as failure_count
from agentmill.agent_metrics_hourly
group by 1, 2
order by execution_count desc, 1, 2
limit 20
