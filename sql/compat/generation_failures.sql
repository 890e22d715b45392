-- One row per failure in a source's catalogue (`execution_type` generation_failure), named as the table generation_failures.
select
    execution_id as id,
    error_type,
    case when status in ('failed', 'timeout', 'error') then error_message end as error_message,
    attributes ->> 'failure_category' as failure_category,
    attributes ->> 'severity' as severity,
    coalesce(occurrences, 1) as occurrence_count,
    stack as stack_trace,
    lower(attributes ->> 'test_generated') in ('true', 't', '1') or exists (
        select
        from agentmill.regression_candidates as candidate
        where executions.execution_id = any(candidate.evidence_execution_ids)
    ) as test_generated,
    null::text as user_request,
    framework,
    user_key as user_id,
    null::jsonb as context,
    event_time as created_at
from agentmill.executions
where execution_type = 'generation_failure'
