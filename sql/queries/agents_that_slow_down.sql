-- Which agents became slower than a week ago?
-- Asked by: analysts
-- Why: A slow creep is seen late when one looks at single days.
-- Read it: Medians of the last day that is over and of the same weekday before, which compares like with like.
select
    now.agent_name,
    before.duration_count as duration_count_before,
    now.duration_count,
    before.duration_p50_ms::bigint as duration_p50_ms_before,
    now.duration_p50_ms::bigint as duration_p50_ms,
    round((100 * (now.duration_p50_ms / nullif(before.duration_p50_ms, 0) - 1))::numeric, 1) as change_pct
from agentmill.agent_metrics_daily as now
inner join agentmill.agent_metrics_daily as before on before.agent_id = now.agent_id and before.day = now.day - 7
where now.day = (select max(day) from agentmill.published_days where is_final)
order by change_pct desc nulls last, now.agent_name
