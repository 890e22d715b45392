-- One row per day of the reporting time zone: what executions cost, per run and per success, and how many are priced.
select
    cube.day,
    sum(cube.execution_count)::bigint as execution_count,
    coalesce(sum(cube.execution_count) filter (where cube.status = 'success'), 0)::bigint as success_count,
    sum(cube.priced_count)::bigint as priced_count,
    (sum(cube.execution_count) - sum(cube.priced_count))::bigint as unpriced_count,
    (sum(cube.priced_count) / sum(cube.execution_count))::double precision as priced_share,
    sum(cube.cost_usd) as cost_usd,
    sum(cube.cost_usd) / nullif(sum(cube.priced_count), 0) as cost_per_run_usd,
    sum(cube.cost_usd) / nullif(sum(cube.execution_count) filter (where cube.status = 'success'), 0)
        as cost_per_success_usd,
    sum(cube.cost_usd) filter (where cube.status in ('failed', 'timeout', 'error')) as failure_cost_usd,
    sum(cube.credited_count)::bigint as credited_count,
    sum(cube.credits) as credits,
    published.published_at,
    published.is_final
from agentmill.execution_rollup_local_daily as cube
left join agentmill.published_days as published using (day)
group by cube.day, published.published_at, published.is_final
