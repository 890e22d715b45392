-- One row per failed execution: what failed, where, and the sanitized message; order by event_time desc for the latest.
select
    event_time,
    agent_id,
    agent_name,
    agent_version,
    execution_type,
    status,
    error_type,
    error_code,
    error_message,
    model,
    duration_ms,
    user_key,
    source,
    execution_id
from agentmill.executions
where status in ('failed', 'timeout', 'error')
