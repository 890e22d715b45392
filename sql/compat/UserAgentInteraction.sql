-- One row per user and agent, named as the Prisma model UserAgentInteraction. Users are pseudonyms; weekday 0 is Sunday.
select
    user_key || ':' || agent_id as id,
    user_key as "userId",
    agent_id as "agentId",
    execution_count as "totalExecutions",
    success_count as "successfulExecutions",
    last_execution_at as "lastExecutedAt",
    first_execution_at as "firstExecutedAt",
    coalesce(is_favorite, false) as "isFavorite",
    rating,
    feedback,
    executions_per_day as "avgExecutionsPerDay",
    preferred_hour as "preferredTimeOfDay",
    preferred_weekday % 7 as "preferredDayOfWeek",
    least(first_execution_at, said_at, first_legacy_transaction_at) as "createdAt",
    greatest(last_execution_at, said_at, last_legacy_transaction_at) as "updatedAt"
from agentmill.user_agent_interactions
