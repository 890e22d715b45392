-- One row per source: the last event and day that were loaded, when, whether the day was over, and how much was refused.
select
    latest.source,
    latest.last_day,
    event.last_event_at,
    ledger.published_at as last_published_at,
    ledger.published_at >= latest.last_day + 1 as is_final,
    latest.received_count,
    latest.clean_count,
    latest.quarantined_count,
    latest.duplicate_count,
    latest.quarantined_count::double precision / nullif(latest.received_count, 0) as quarantine_share
from (
    select distinct on (source)
        source, day as last_day, received_count, clean_count, quarantined_count, duplicate_count
    from agentmill.receipts_daily
    where received_count > 0
    order by source, day desc
) as latest
cross join lateral (
    select max(event_time) as last_event_at
    from (
        select max(event_time) as event_time from agentmill.executions
        where source = latest.source and event_time >= latest.last_day::timestamp at time zone 'UTC'
        union all
        select max(event_time) from agentmill.execution_logs
        where source = latest.source and event_time >= latest.last_day::timestamp at time zone 'UTC'
        union all
        select max(event_time) from agentmill.user_agent_preferences
        where source = latest.source and event_time >= latest.last_day::timestamp at time zone 'UTC'
    ) as last_of_type
) as event
left join agentmill.load_ledger as ledger on ledger.table_name = 'executions' and ledger.day = latest.last_day
