-- One row per view that hides groups of few users from this reader: of how many groups it hides cells, in how many rows.
select view_name, hidden_group_count, hidden_row_count
from (
    select
        'user_agent_interactions' as view_name,
        count(*) as hidden_group_count,
        coalesce(sum(user_count), 0)::bigint as hidden_row_count
    from agentmill.agent_user_counts
    where not agentmill.sees_single_users() and not is_shown
    union all
    select 'user_retention_weekly', count(distinct (cohort_week, weeks_since)), count(*)
    from agentmill.user_retention_weekly
    where is_hidden
    union all
    select 'agent_discovery', count(distinct first_agent_id), count(*)
    from agentmill.agent_discovery
    where is_hidden
    union all
    select 'feature_usage', count(distinct (week, agent_id)), count(*)
    from agentmill.feature_usage
    where is_hidden
) as told
where hidden_row_count > 0
