-- One row per execution, named as the MySQL table agentExecutionLogs. Users are pseudonyms.
select
    execution_id as id,
    user_key as "userId",
    agent_name as "agentName",
    execution_type as "executionType",
    case when status in ('success', 'partial') then status else 'failed' end as status,
    case when status in ('failed', 'timeout', 'error') then error_message end as "errorMessage",
    event_time as "executedAt"
from agentmill.executions
