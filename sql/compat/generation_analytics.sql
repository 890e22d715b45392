-- One row per attempt to generate a project (`execution_type` generation), named as the table generation_analytics.
select
    execution_id as id,
    project_id,
    user_key as user_id,
    status = 'success' as success,
    coalesce(framework, agent_name) as framework,
    jsonb_strip_nulls(jsonb_build_object('fileCount', files_modified, 'duration', duration_ms)) as metadata,
    event_time as created_at
from agentmill.executions
where execution_type = 'generation'
