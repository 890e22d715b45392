-- Which models does the money go to?
-- Asked by: leaders
-- Why: To choose where a cheaper model would matter.
-- Read it: A model without a price has no cost, which is not 0.
select
    provider,
    model,
    sum(execution_count) as execution_count,
    sum(priced_count) as priced_count,
    round(sum(cost_usd), 2) as cost_usd,
    round(100 * sum(cost_usd) / nullif(sum(sum(cost_usd)) over (), 0), 1) as share_pct,
    round(sum(cost_usd) / nullif(sum(priced_count), 0), 5) as cost_per_run_usd
from agentmill.model_metrics_daily
group by provider, model
order by cost_usd desc nulls last, model
