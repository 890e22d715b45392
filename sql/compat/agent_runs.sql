-- One row per execution, named as the flat table agent_runs.
select
    execution_id as run_id,
    agent_name,
    status,
    model,
    event_time as started_at,
    completed_at as ended_at,
    input_tokens,
    cache_read_tokens,
    output_tokens,
    cost_usd,
    error_type,
    case when status in ('failed', 'timeout', 'error') then error_message end as error_message,
    llm_calls,
    files_modified
from agentmill.executions
