-- One row per agent, named as the Prisma model Agent; `stats` holds measured figures, and the opening balance apart.
select
    agent_id as id,
    agent_name as name,
    jsonb_build_object(
        'totalExecutions', execution_count,
        'successfulExecutions', success_count,
        'failedExecutions', execution_count - success_count,
        'averageExecutionTime', duration_avg_ms,
        'uniqueUsers', user_count,
        'openingBalance', case
            when opening_as_of is not null
                then jsonb_build_object(
                    'asOf', opening_as_of,
                    'totalExecutions', opening_execution_count,
                    'successfulExecutions', opening_success_count,
                    'failedExecutions', opening_failure_count,
                    'averageExecutionTime', opening_duration_avg_ms,
                    'uniqueUsers', opening_user_count
                )
        end
    ) as stats,
    last_executed_at as "lastExecutedAt",
    execution_count as "totalExecutions",
    rating_avg as "avgRating",
    user_count as "totalUsers"
from agentmill.agents
