-- One row per source: the last day and event that were loaded, when, whether the day was over, and what was refused.
select
    latest.source,
    latest.last_day,
    loaded.last_event_at,
    loaded.published_at as last_published_at,
    agentmill.was_over(latest.last_day, loaded.published_at) as is_final,
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
-- A source has records of one type; where all of its last day were refused, nothing tells of which.
cross join lateral (
    select
        max(held.event_time) as last_event_at,
        coalesce(max(ledger.published_at) filter (where held.event_time is not null), max(ledger.published_at))
            as published_at
    from (
        select 'executions' as table_name, max(event_time) as event_time from agentmill.executions
        where source = latest.source and event_time >= latest.last_day::timestamp at time zone 'UTC'
        union all
        select 'execution_logs', max(event_time) from agentmill.execution_logs
        where source = latest.source and event_time >= latest.last_day::timestamp at time zone 'UTC'
        union all
        select 'user_agent_preferences', max(event_time) from agentmill.user_agent_preferences
        where source = latest.source and event_time >= latest.last_day::timestamp at time zone 'UTC'
    ) as held
    left join agentmill.load_ledger as ledger
        on ledger.table_name = held.table_name and ledger.day = latest.last_day
) as loaded
