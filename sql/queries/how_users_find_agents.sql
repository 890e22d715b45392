-- From which agent do users go on to which?
-- Asked by: leaders
-- Why: What to recommend, and which agent opens the door.
-- Read it: Of the users who began with an agent; no second agent means none yet. Hidden rows are of few users.
select
    first_agent_id, second_agent_id, first_user_count, user_count, round(100 * user_share::numeric, 1) as user_pct,
    round(days_between_p50::numeric, 2) as days_between_p50, is_hidden
from agentmill.agent_discovery
order by first_agent_id, user_count desc nulls last, second_agent_id
