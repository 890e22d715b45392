-- One row per source: the last day that was loaded, when, and how much of it was refused.
select distinct on (receipt.source)
    receipt.source,
    receipt.day as last_day,
    ledger.published_at as last_published_at,
    receipt.received_count,
    receipt.clean_count,
    receipt.quarantined_count,
    receipt.duplicate_count,
    receipt.quarantined_count::double precision / nullif(receipt.received_count, 0) as quarantine_share
from agentmill.receipts_daily as receipt
left join agentmill.load_ledger as ledger
    on ledger.table_name = 'executions' and ledger.day = receipt.day
where receipt.received_count > 0
order by receipt.source, receipt.day desc
