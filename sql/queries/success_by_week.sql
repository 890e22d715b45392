-- Does each agent succeed more often than the week before?
-- Asked by: leaders
-- Why: To see whether work on an agent shows.
-- Read it: The change is in percentage points; below the margin, which is of 95 %, there is no evidence of a change.
with weekly as (
    select
        agent_id,
        day - extract(isodow from day)::integer + 1 as week,
        sum(execution_count) as execution_count,
        sum(success_count)::numeric / sum(execution_count) as success_rate
    from agentmill.agent_metrics_daily
    group by 1, 2
),

compared as (
    select
        *,
        lag(success_rate) over weeks as rate_before,
        lag(execution_count) over weeks as count_before
    from weekly
    window weeks as (partition by agent_id order by week)
)

select
    week,
    agent_id,
    execution_count,
    round(100 * success_rate, 2) as success_pct,
    round(100 * (success_rate - rate_before), 2) as change_points,
    round(
        196 * sqrt(success_rate * (1 - success_rate) / execution_count + rate_before * (1 - rate_before) / count_before), 2
    ) as margin_points
from compared
order by week, agent_id
