-- One row per line that an execution wrote, named as the Prisma model AgentLog. Users are pseudonyms.
select
    log_id as id,
    execution_id as "executionId",
    agent_id as "agentId",
    user_key as "userId",
    category,
    level,
    message,
    null::jsonb as context,
    attributes as metadata,
    event_time as timestamp
from agentmill.execution_logs
