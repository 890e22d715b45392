-- One row per UTC day, distinct failure and environment.
select
    fact.day,
    known.cluster_id,
    fact.environment,
    sum(fact.occurrence_count)::bigint as occurrence_count,
    min(fact.first_seen_at) as first_seen_at,
    max(fact.last_seen_at) as last_seen_at
from agentmill.failure_signatures_daily as fact
inner join agentmill.failure_cluster_signatures as known using (signature_id)
group by fact.day, known.cluster_id, fact.environment
