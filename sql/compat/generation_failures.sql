-- One row per failure in a source's catalogue (`execution_type` generation_failure), named as the table generation_failures.
select
    failure.execution_id as id,
    failure.error_type,
    case when failure.status in ('failed', 'timeout', 'error') then failure.error_message end as error_message,
    coalesce(failure.attributes ->> 'failure_category', kind.failure_category) as failure_category,
    coalesce(failure.attributes ->> 'severity', kind.severity) as severity,
    coalesce(failure.occurrences, 1) as occurrence_count,
    failure.stack as stack_trace,
    lower(failure.attributes ->> 'test_generated') in ('true', 't', '1') or exists (
        select
        from agentmill.regression_candidates as candidate
        where failure.execution_id = any(candidate.evidence_execution_ids)
    ) as test_generated,
    null::text as user_request,
    failure.framework,
    failure.user_key as user_id,
    null::jsonb as context,
    failure.event_time as created_at
from agentmill.executions as failure
left join agentmill.failure_occurrences as occurrence
    on occurrence.day = (failure.event_time at time zone 'UTC')::date
    and occurrence.source = failure.source
    and occurrence.execution_id = failure.execution_id
left join agentmill.failure_cluster_signatures as known on known.signature_id = occurrence.signature_id
left join agentmill.failure_clusters as cluster on cluster.cluster_id = known.cluster_id
cross join lateral agentmill.generation_failure_kind(cluster.category) as kind
where failure.execution_type = 'generation_failure'
