-- Which failures deserve a regression test first?
-- Asked by: analysts
-- Why: A failure that came back three times in a week will come again.
-- Read it: What matters most first; a resilience test asks for better behaviour when a provider fails.
select
    candidate.kind, candidate.state, candidate.priority, cluster.category, cluster.occurrence_count,
    cluster.user_count, cluster.title
from agentmill.regression_candidates as candidate
inner join agentmill.failure_clusters as cluster using (cluster_id)
order by candidate.priority desc, cluster.occurrence_count desc, cluster.cluster_id
limit 10
