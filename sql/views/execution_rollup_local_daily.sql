-- One row per day of the reporting time zone, the cubes' dimensions, and UTC hour within it: sum them.
select
    cube.day,
    cube.agent_id, cube.agent_version, cube.environment, cube.execution_type, cube.provider, cube.model,
    cube.status, cube.failure_category,
    cube.execution_count, cube.duration_count, cube.duration_sum_ms, cube.duration_sketch, cube.ttft_count,
    cube.ttft_sum_ms, cube.ttft_sketch,
    cube.priced_count, cube.cost_usd, cube.cost_sketch, cube.credited_count, cube.credits,
    cube.metered_count, cube.input_tokens, cube.cache_read_tokens, cube.cache_write_tokens, cube.output_tokens,
    cube.reasoning_tokens, cube.cache_read_count,
    cube.llm_calls, cube.tool_calls, cube.files_modified
from agentmill.execution_rollup_daily as cube
where agentmill.reporting_timezone() = 'UTC'

union all

select
    local.day,
    cube.agent_id, cube.agent_version, cube.environment, cube.execution_type, cube.provider, cube.model,
    cube.status, cube.failure_category,
    cube.execution_count, cube.duration_count, cube.duration_sum_ms, cube.duration_sketch, cube.ttft_count,
    cube.ttft_sum_ms, cube.ttft_sketch,
    cube.priced_count, cube.cost_usd, cube.cost_sketch, cube.credited_count, cube.credits,
    cube.metered_count, cube.input_tokens, cube.cache_read_tokens, cube.cache_write_tokens, cube.output_tokens,
    cube.reasoning_tokens, cube.cache_read_count,
    cube.llm_calls, cube.tool_calls, cube.files_modified
from agentmill.local_days() as local
join agentmill.execution_rollup_hourly as cube on cube.hour >= local.starts_at and cube.hour < local.ends_at
where local.is_whole_hours and agentmill.reporting_timezone() <> 'UTC'

union all

select
    local.day,
    cube.agent_id, cube.agent_version, cube.environment, cube.execution_type, cube.provider, cube.model,
    cube.status, cube.failure_category,
    cube.execution_count, cube.duration_count, cube.duration_sum_ms, cube.duration_sketch, cube.ttft_count,
    cube.ttft_sum_ms, cube.ttft_sketch,
    cube.priced_count, cube.cost_usd, cube.cost_sketch, cube.credited_count, cube.credits,
    cube.metered_count, cube.input_tokens, cube.cache_read_tokens, cube.cache_write_tokens, cube.output_tokens,
    cube.reasoning_tokens, cube.cache_read_count,
    cube.llm_calls, cube.tool_calls, cube.files_modified
from agentmill.local_days() as local
join agentmill.execution_rollup_quarter_hourly as cube
    on cube.quarter >= local.starts_at and cube.quarter < local.ends_at
where not local.is_whole_hours and agentmill.reporting_timezone() <> 'UTC'
