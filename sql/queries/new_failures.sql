-- Which failures are new this week?
-- Asked by: on-call
-- Why: A failure nobody has seen before often follows a release.
-- Read it: First seen within the last seven days that have data; the versions tell whose release it may be.
select category, first_seen_at, occurrence_count, user_count, agent_ids, agent_versions, title
from agentmill.failure_clusters
where first_seen_at >= (select max(day) - 6 from agentmill.agent_metrics_daily)::timestamp at time zone 'UTC'
order by occurrence_count desc, cluster_id
limit 10
