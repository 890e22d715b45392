-- One row per first agent of users and the second agent they came to use (null: none yet): how many, and how soon.
-- The paths from one first agent are the cells of a group; cells of few users are null, and those that would give them away.
with first_use as (
    select user_key, agent_id, min(first_at) as first_at
    from agentmill.user_activity_daily
    group by user_key, agent_id
),

ordered as (
    select
        agent_id as first_agent_id,
        lead(agent_id) over discovery as second_agent_id,
        lead(first_at) over discovery - first_at as waited,
        row_number() over discovery as nth
    from first_use
    window discovery as (partition by user_key order by first_at, agent_id)
),

path as (
    select
        first_agent_id,
        second_agent_id,
        count(*) as user_count,
        percentile_cont(0.5) within group (order by extract(epoch from waited)::double precision / 86400) as days_between_p50
    from ordered
    where nth = 1
    group by first_agent_id, second_agent_id
),

first_agent as (
    select
        first_agent_id,
        sum(user_count)::bigint as user_count,
        array_agg(user_count order by second_agent_id) as user_counts,
        array_agg(second_agent_id order by second_agent_id) as second_agent_ids,
        array_agg(days_between_p50 order by second_agent_id) as days_between_p50
    from path
    group by first_agent_id
),

-- A total that would give its paths away is hidden among the first agents as if it were small itself.
first_agents as (
    select
        array_agg(first_agent_id order by first_agent_id) as first_agent_ids,
        array_agg(case when told.is_total_hidden then least(user_count, minimum.size - 1) else user_count end
            order by first_agent_id) as user_counts
    from first_agent
    cross join (select agentmill.minimum_group_size() as size) as minimum
    cross join lateral (
        select bool_or(is_total_hidden) as is_total_hidden
        from agentmill.suppress_cells(first_agent.user_counts, minimum.size)
    ) as told
),

start as (
    select first_agents.first_agent_ids[told.cell] as first_agent_id, told.is_hidden
    from first_agents
    cross join lateral agentmill.suppress_cells(first_agents.user_counts, (select agentmill.minimum_group_size())) as told
)

select
    first_agent_id,
    first_agent.second_agent_ids[told.cell] as second_agent_id,
    case when not start.is_hidden then first_agent.user_count end as first_user_count,
    case when not hidden.is_hidden then first_agent.user_counts[told.cell] end as user_count,
    case when not hidden.is_hidden then first_agent.user_counts[told.cell]::double precision / first_agent.user_count end
        as user_share,
    case when not hidden.is_hidden then first_agent.days_between_p50[told.cell] end as days_between_p50,
    hidden.is_hidden,
    case when start.is_hidden then cardinality(first_agent.user_counts) else told.hidden_cell_count end as hidden_cell_count,
    published.published_at,
    published.is_final
from first_agent
inner join start using (first_agent_id)
cross join lateral agentmill.suppress_cells(first_agent.user_counts, (select agentmill.minimum_group_size())) as told
cross join lateral (select start.is_hidden or told.is_hidden as is_hidden) as hidden
cross join (
    select
        max(published_at) as published_at,
        bool_and(agentmill.was_over(day, published_at)) as is_final
    from agentmill.load_ledger
    where table_name = 'user_activity_daily'
) as published
