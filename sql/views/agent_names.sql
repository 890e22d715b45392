-- One row per agent: the name it had last.
select distinct on (agent_id) agent_id, agent_name
from agentmill.agent_metrics_daily
order by agent_id, day desc
