-- One row per agent: its users, those of an older application and those who said something of it included; counted up to the
-- minimum group size, which is all that hiding needs and quickly found.
with other as (
    select agent_id, array_agg(user_key) as user_keys
    from (
        select user_key, agent_id from agentmill.user_agent_preferences
        union
        select user_key, agent_id from agentmill.interaction_history
    ) as pair
    group by agent_id
)

select
    agent_id,
    users.user_count,
    users.user_count >= (select agentmill.minimum_group_size()) as is_shown
from (select distinct agent_id from agentmill.agent_metrics_daily) as measured
full join other using (agent_id)
cross join lateral (
    select count(*) as user_count
    from (
        select user_key
        from (
            select distinct user_key
            from agentmill.user_activity_daily as activity
            where activity.agent_id = coalesce(measured.agent_id, other.agent_id)
            limit (select agentmill.minimum_group_size())
        ) as active
        union
        select unnest(other.user_keys)
        limit (select agentmill.minimum_group_size())
    ) as known
) as users
