-- What does a day cost, and how much of it is known?
-- Asked by: leaders
-- Why: To watch the budget.
-- Read it: Cost sums the priced runs only: mind the priced share before comparing days.
select
    day,
    sum(execution_count) as execution_count,
    round(100.0 * sum(priced_count) / sum(execution_count), 1) as priced_pct,
    round(sum(cost_usd), 2) as cost_usd,
    round(sum(cost_usd) / nullif(sum(success_count), 0), 5) as cost_per_success_usd
from agentmill.agent_metrics_daily
group by day
order by day
