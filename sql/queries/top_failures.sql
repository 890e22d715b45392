-- What fails most in the last seven days?
-- Asked by: on-call
-- Why: To mend first what hurts most.
-- Read it: One row per distinct failure; what it says is masked.
select
    cluster.category,
    sum(daily.occurrence_count) as occurrence_count,
    count(distinct daily.day) as day_count,
    min(daily.first_seen_at) as first_seen_at,
    max(daily.last_seen_at) as last_seen_at,
    cluster.fault_domain,
    cluster.title
from agentmill.failure_signatures_daily as daily
inner join agentmill.failure_clusters as cluster on daily.signature_id = any(cluster.signature_ids)
where daily.day > (select max(day) from agentmill.agent_metrics_daily) - 7
group by cluster.cluster_id, cluster.category, cluster.fault_domain, cluster.title
order by occurrence_count desc, cluster.cluster_id
limit 10
