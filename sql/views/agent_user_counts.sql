-- One row per agent: how many users ran it, said something of it, or are known of it by an older application.
select
    agent_id,
    count(*) as user_count
from (
    select user_key, agent_id from agentmill.user_activity_daily
    union
    select user_key, agent_id from agentmill.user_agent_preferences
    union
    select user_key, agent_id from agentmill.interaction_history
) as pair
group by agent_id
