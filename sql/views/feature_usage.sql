-- One row per week (UTC, from Monday), agent and execution type: its users and runs.
-- The types of one agent and week are the cells of a group, and a user may be in several. Cells of few users are null, and
-- those that would give them away; runs are public, as in the cubes. Users are null, too, in weeks of which it is not known
-- which types a user ran.
with used as (
    select week, agent_id, execution_type, count(distinct user_key) as user_count
    from (
        select user_key, agent_id, day - extract(isodow from day)::integer + 1 as week, execution_types
        from agentmill.user_activity_daily
    ) as activity
    cross join lateral unnest(execution_types) as one (execution_type)
    group by week, agent_id, execution_type
),

unknown as (
    select distinct day - extract(isodow from day)::integer + 1 as week, agent_id
    from agentmill.user_activity_daily
    where execution_types is null
),

ran as (
    select
        day - extract(isodow from day)::integer + 1 as week,
        agent_id,
        execution_type,
        sum(execution_count)::bigint as execution_count
    from agentmill.execution_rollup_daily
    group by 1, 2, 3
),

published as (
    select
        day - extract(isodow from day)::integer + 1 as week,
        max(published_at) as published_at,
        bool_and(agentmill.was_over(day, published_at)) as is_final
    from agentmill.load_ledger
    where table_name = 'execution_rollup_daily'
    group by 1
),

feature as (
    select
        ran.week,
        ran.agent_id,
        array_agg(ran.execution_type order by ran.execution_type) as execution_types,
        array_agg(ran.execution_count order by ran.execution_type) as execution_counts,
        array_agg(coalesce(used.user_count, 0) order by ran.execution_type) as user_counts,
        bool_and(unknown.week is null) as is_known
    from ran
    left join used
        on used.week = ran.week and used.agent_id = ran.agent_id
        and used.execution_type is not distinct from ran.execution_type
    left join unknown on unknown.week = ran.week and unknown.agent_id = ran.agent_id
    group by ran.week, ran.agent_id
)

select
    week,
    agent_id,
    feature.execution_types[told.cell] as execution_type,
    case when feature.is_known and not told.is_hidden then feature.user_counts[told.cell] end as user_count,
    feature.execution_counts[told.cell] as execution_count,
    told.is_hidden,
    told.hidden_cell_count,
    published.published_at,
    published.is_final
from feature
left join published using (week)
cross join lateral agentmill.suppress_cells(feature.user_counts, (select agentmill.minimum_group_size()), true) as told
