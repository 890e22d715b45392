-- Was the last release of an agent better than the one before?
-- Asked by: analysts
-- Why: To keep or to roll back a release.
-- Read it: With 95 % intervals; a version whose interval lies below that of the others is worse.
select
    agent_id,
    agent_version,
    total.first_hour,
    total.execution_count,
    round(100.0 * total.success_count / total.execution_count, 2) as success_pct,
    round(100 * wilson.low::numeric, 2) as success_pct_low,
    round(100 * wilson.high::numeric, 2) as success_pct_high
from (
    select
        agent_id,
        agent_version,
        min(hour) as first_hour,
        sum(execution_count)::bigint as execution_count,
        coalesce(sum(execution_count) filter (where status = 'success'), 0)::bigint as success_count
    from agentmill.execution_rollup_hourly
    group by agent_id, agent_version
) as total
cross join lateral agentmill.wilson_interval(total.success_count, total.execution_count) as wilson
order by agent_id, first_hour
