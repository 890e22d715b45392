-- One row per day of the reporting time zone: when its figures were published last, and whether all of them were final.
select
    local.day,
    max(ledger.published_at) as published_at,
    bool_and(coalesce(agentmill.was_over(ledger.day, ledger.published_at), false)) as is_final
from agentmill.local_days() as local
-- The UTC days that hold it: each must have been over when it was loaded. One that never was is not final.
cross join lateral generate_series(
    date_trunc('day', local.starts_at at time zone 'UTC'),
    (local.ends_at - interval '1 microsecond') at time zone 'UTC',
    interval '1 day'
) as reached (day)
left join agentmill.load_ledger as ledger
    on ledger.day = reached.day::date
    -- the cube that tells the day in this zone
    and ledger.table_name = case
        when agentmill.reporting_timezone() = 'UTC' then 'execution_rollup_daily'
        when local.is_whole_hours then 'execution_rollup_hourly'
        else 'execution_rollup_quarter_hourly'
    end
group by local.day
having count(ledger.day) > 0
