-- Is all data there, and how much was refused?
-- Asked by: on-call
-- Why: A quiet dashboard may be a source that stopped.
-- Read it: The last day of each source; received is clean, refused, repeated and erased together.
select source, last_day, received_count, clean_count, quarantined_count, duplicate_count,
    round(100 * quarantine_share::numeric, 3) as refused_pct
from agentmill.data_freshness
order by source
