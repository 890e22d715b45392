-- Which types of work are used, by how many?
-- Asked by: leaders
-- Why: Where people spend their runs.
-- Read it: By week and agent; a user may do several types, so users do not add up.
select week, agent_id, execution_type, user_count, execution_count, is_hidden
from agentmill.feature_usage
order by week, agent_id, execution_type
