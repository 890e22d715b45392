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
    -- No function in a question sees another execution's message, and the view needs no barrier, which would cost its index.
    case when status in ('failed', 'timeout', 'error') then error_message end as error_message,
    model,
    duration_ms,
    user_key,
    source,
    execution_id
from agentmill.executions
where status in ('failed', 'timeout', 'error')
