-- How much is paid for runs that fail?
-- Asked by: leaders
-- Why: What better reliability would save.
-- Read it: By category of the failure; the priced runs only.
select
    coalesce(failure_category, status) as category,
    sum(execution_count) as execution_count,
    sum(priced_count) as priced_count,
    round(sum(cost_usd), 2) as cost_usd
from agentmill.execution_rollup_hourly
where status in ('failed', 'timeout', 'error')
group by 1
order by cost_usd desc nulls last, category
