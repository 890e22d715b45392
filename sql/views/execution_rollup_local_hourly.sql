-- One row per hour of the reporting time zone, the cubes' dimensions, and UTC quarter where hours differ: sum them.
select
    cube.day,
    cube.hour,
    extract(hour from cube.hour at time zone 'UTC')::integer as hour_of_day,
    extract(isodow from cube.day)::integer as weekday,
    cube.agent_id, cube.agent_version, cube.environment, cube.execution_type, cube.provider, cube.model,
    cube.status, cube.failure_category,
    cube.execution_count, cube.duration_count, cube.duration_sum_ms, cube.duration_sketch, cube.ttft_count,
    cube.ttft_sum_ms, cube.ttft_sketch,
    cube.priced_count, cube.cost_usd, cube.cost_sketch, cube.credited_count, cube.credits,
    cube.metered_count, cube.input_tokens, cube.cache_read_tokens, cube.cache_write_tokens, cube.output_tokens,
    cube.reasoning_tokens, cube.cache_read_count,
    cube.llm_calls, cube.tool_calls, cube.files_modified
from agentmill.execution_rollup_hourly as cube
where agentmill.reporting_timezone() = 'UTC'

union all

select
    local.day,
    hour.starts_at as hour,
    hour.hour_of_day,
    extract(isodow from local.day)::integer as weekday,
    cube.agent_id, cube.agent_version, cube.environment, cube.execution_type, cube.provider, cube.model,
    cube.status, cube.failure_category,
    cube.execution_count, cube.duration_count, cube.duration_sum_ms, cube.duration_sketch, cube.ttft_count,
    cube.ttft_sum_ms, cube.ttft_sketch,
    cube.priced_count, cube.cost_usd, cube.cost_sketch, cube.credited_count, cube.credits,
    cube.metered_count, cube.input_tokens, cube.cache_read_tokens, cube.cache_write_tokens, cube.output_tokens,
    cube.reasoning_tokens, cube.cache_read_count,
    cube.llm_calls, cube.tool_calls, cube.files_modified
from agentmill.local_days() as local
cross join agentmill.local_hours(local.starts_at, local.ends_at) as hour
join agentmill.execution_rollup_hourly as cube on cube.hour = hour.starts_at
where hour.is_whole_hour and agentmill.reporting_timezone() <> 'UTC'

union all

select
    local.day,
    hour.starts_at as hour,
    hour.hour_of_day,
    extract(isodow from local.day)::integer as weekday,
    cube.agent_id, cube.agent_version, cube.environment, cube.execution_type, cube.provider, cube.model,
    cube.status, cube.failure_category,
    cube.execution_count, cube.duration_count, cube.duration_sum_ms, cube.duration_sketch, cube.ttft_count,
    cube.ttft_sum_ms, cube.ttft_sketch,
    cube.priced_count, cube.cost_usd, cube.cost_sketch, cube.credited_count, cube.credits,
    cube.metered_count, cube.input_tokens, cube.cache_read_tokens, cube.cache_write_tokens, cube.output_tokens,
    cube.reasoning_tokens, cube.cache_read_count,
    cube.llm_calls, cube.tool_calls, cube.files_modified
from agentmill.local_days() as local
cross join agentmill.local_hours(local.starts_at, local.ends_at) as hour
-- Equality tells the planner that this finds few rows; a range would not.
join agentmill.execution_rollup_quarter_hourly as cube
    on cube.quarter = any (array[
        hour.starts_at,
        hour.starts_at + interval '15 minutes',
        hour.starts_at + interval '30 minutes',
        hour.starts_at + interval '45 minutes'
    ]) and cube.quarter < hour.ends_at
where not hour.is_whole_hour and agentmill.reporting_timezone() <> 'UTC'
