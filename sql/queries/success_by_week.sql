-- Does each agent succeed more often than the week before?
-- Asked by: leaders
-- Why: To see whether work on an agent shows.
-- Read it: The change is in percentage points; where 0 lies between low and high (95 %), there is no evidence of a change.
with weekly as (
    select
        agent_id,
        day - extract(isodow from day)::integer + 1 as week,
        sum(execution_count)::bigint as execution_count,
        sum(success_count)::bigint as success_count
    from agentmill.agent_metrics_daily
    group by 1, 2
),

rated as (
    select weekly.*, success_count::double precision / execution_count as rate, wilson.low, wilson.high
    from weekly
    cross join lateral agentmill.wilson_interval(success_count, execution_count) as wilson
)

select
    now.week,
    now.agent_id,
    now.execution_count,
    round((100 * now.rate)::numeric, 2) as success_pct,
    round((100 * (now.rate - before.rate))::numeric, 2) as change_points,
    -- R. G. Newcombe, Statistics in Medicine 17 (1998), method 10
    round((100 * (now.rate - before.rate - sqrt((now.rate - now.low) ^ 2 + (before.high - before.rate) ^ 2)))::numeric, 2)
        as change_low_points,
    round((100 * (now.rate - before.rate + sqrt((now.high - now.rate) ^ 2 + (before.rate - before.low) ^ 2)))::numeric, 2)
        as change_high_points
from rated as now
left join rated as before on before.agent_id = now.agent_id and before.week = now.week - 7
order by now.week, now.agent_id
