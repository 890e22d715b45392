-- One row per UTC day and agent (hour is null), and one per UTC hour and agent, named as the Prisma model AgentMetrics.
with failed as (
    select
        day,
        hour,
        agent_id,
        jsonb_object_agg(failure_category, execution_count) as error_counts
    from (
        select day, hour, agent_id, failure_category, sum(execution_count) as execution_count
        from agentmill.execution_rollup_hourly
        where failure_category is not null
        group by grouping sets ((day, agent_id, failure_category), (day, hour, agent_id, failure_category))
    ) as category
    group by day, hour, agent_id
),

measured as (
    select
        day, null::timestamptz as hour, agent_id, execution_count, success_count, failed_count, partial_count,
        cancelled_count, timeout_count, error_count, duration_avg_ms, duration_min_ms, duration_max_ms, duration_p95_ms,
        duration_p99_ms, user_count, credited_count, credits
    from agentmill.agent_metrics_daily
    union all
    select
        day, hour, agent_id, execution_count, success_count, failed_count, partial_count,
        cancelled_count, timeout_count, error_count, duration_avg_ms, duration_min_ms, duration_max_ms, duration_p95_ms,
        duration_p99_ms, user_count, credited_count, credits
    from agentmill.agent_metrics_hourly
)

select
    concat_ws(':', measured.agent_id, measured.day, extract(hour from measured.hour at time zone 'UTC')) as id,
    measured.agent_id as "agentId",
    measured.day as date,
    extract(hour from measured.hour at time zone 'UTC')::integer as hour,
    measured.execution_count as "totalExecutions",
    measured.success_count as "successfulExecutions",
    measured.failed_count + measured.partial_count + measured.cancelled_count as "failedExecutions",
    measured.timeout_count as "timeoutExecutions",
    measured.error_count as "errorExecutions",
    measured.duration_avg_ms as "avgDuration",
    measured.duration_min_ms as "minDuration",
    measured.duration_max_ms as "maxDuration",
    round(measured.duration_p95_ms) as "p95Duration",
    round(measured.duration_p99_ms) as "p99Duration",
    measured.user_count as "uniqueUsers",
    measured.credits as "totalCreditsConsumed",
    measured.credits / nullif(measured.credited_count, 0) as "avgCreditsPerExecution",
    failed.error_counts as "errorCounts",
    ledger.published_at as "createdAt",
    ledger.published_at as "updatedAt"
from measured
left join failed
    on failed.day = measured.day and failed.agent_id = measured.agent_id and failed.hour is not distinct from measured.hour
left join agentmill.load_ledger as ledger on ledger.table_name = 'agent_metrics_daily' and ledger.day = measured.day
