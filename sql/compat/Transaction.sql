-- One row per transaction of the older application that was brought in, named as the Prisma model Transaction.
select
    interaction_id as id,
    user_key as "userId",
    agent_id as "agentId",
    status,
    occurred_at as "createdAt"
from agentmill.interaction_history
