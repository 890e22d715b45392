-- One row per user and agent: the latest rating that the user gave, whichever source tells it.
select distinct on (user_key, agent_id) user_key, agent_id, rating
from agentmill.user_agent_preferences
where rating is not null
order by user_key, agent_id, event_time desc, source, row_hash
