-- One row per view that hides groups of few users from this reader: of how many groups it hides cells, in how many rows.
select view_name, hidden_group_count, hidden_row_count
from (
    select
        view_name,
        count(*) as hidden_group_count,
        sum(user_count)::bigint as hidden_row_count
    from agentmill.agent_user_counts
    cross join (values ('user_agent_interactions'), ('compat.UserAgentInteraction')) as of_users (view_name)
    where not agentmill.sees_single_users() and not is_shown and user_count > 0
    group by view_name
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
