-- One row per day of the reporting time zone: when its figures were published last, and whether the day was over then.
select
    local.day,
    max(ledger.published_at) as published_at,
    min(ledger.published_at) >= local.ends_at as is_final
from agentmill.local_days() as local
join agentmill.load_ledger as ledger
    on ledger.table_name = 'execution_rollup_daily'
    and ledger.day between (local.starts_at at time zone 'UTC')::date
        and ((local.ends_at - interval '1 microsecond') at time zone 'UTC')::date
group by local.day, local.ends_at
