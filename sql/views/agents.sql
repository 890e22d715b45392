-- One row per agent: all that was ever measured of it, what users say of it, and, apart, its balance at a migration.
-- A mean rating of few users is null for readers who may not see single users.
with measured as (
    select
        agent_id,
        (array_agg(agent_name order by day desc))[1] as agent_name,
        min(first_at) as first_executed_at,
        max(last_at) as last_executed_at,
        count(*) as active_days,
        sum(execution_count)::bigint as execution_count,
        sum(success_count)::bigint as success_count,
        sum(partial_count)::bigint as partial_count,
        sum(failure_count)::bigint as failure_count,
        sum(duration_count)::bigint as duration_count,
        sum(duration_avg_ms * duration_count) / nullif(sum(duration_count), 0) as duration_avg_ms,
        sum(priced_count)::bigint as priced_count,
        sum(unpriced_count)::bigint as unpriced_count,
        sum(cost_usd) as cost_usd,
        sum(credited_count)::bigint as credited_count,
        sum(credits) as credits
    from agentmill.agent_metrics_daily
    group by agent_id
),

version as (
    select agent_id, array_agg(distinct agent_version order by agent_version) as agent_versions
    from agentmill.execution_rollup_daily
    where agent_version is not null
    group by agent_id
),

audience as (
    select agent_id, count(distinct user_key) as user_count
    from agentmill.user_activity_daily
    group by agent_id
),

ratings as (
    select agent_id, count(*) as rating_count, avg(rating)::double precision as rating_avg
    from agentmill.user_agent_ratings
    group by agent_id
)

select
    agent_id,
    coalesce(measured.agent_name, balance.agent_name, agent_id) as agent_name,
    coalesce(version.agent_versions, '{}') as agent_versions,
    measured.first_executed_at,
    measured.last_executed_at,
    coalesce(measured.active_days, 0) as active_days,
    coalesce(measured.execution_count, 0) as execution_count,
    coalesce(measured.success_count, 0) as success_count,
    coalesce(measured.partial_count, 0) as partial_count,
    coalesce(measured.failure_count, 0) as failure_count,
    measured.success_count::double precision / measured.execution_count as success_rate,
    wilson.low as success_rate_low,
    wilson.high as success_rate_high,
    coalesce(audience.user_count, 0) as user_count,
    coalesce(measured.duration_count, 0) as duration_count,
    measured.duration_avg_ms,
    coalesce(measured.priced_count, 0) as priced_count,
    coalesce(measured.unpriced_count, 0) as unpriced_count,
    measured.cost_usd,
    coalesce(measured.credited_count, 0) as credited_count,
    measured.credits,
    coalesce(ratings.rating_count, 0) as rating_count,
    case
        when (select agentmill.sees_single_users()) or ratings.rating_count >= (select agentmill.minimum_group_size())
            then ratings.rating_avg
    end as rating_avg,
    balance.as_of as opening_as_of,
    balance.execution_count as opening_execution_count,
    balance.success_count as opening_success_count,
    balance.failure_count as opening_failure_count,
    balance.duration_avg_ms as opening_duration_avg_ms,
    balance.user_count as opening_user_count,
    published.published_at,
    published.is_final
from measured
full join agentmill.agent_opening_balances as balance using (agent_id)
full join ratings using (agent_id)
left join version using (agent_id)
left join audience using (agent_id)
left join lateral agentmill.wilson_interval(measured.success_count, measured.execution_count) as wilson on true
cross join (
    select
        max(published_at) as published_at,
        bool_and(agentmill.was_over(day, published_at)) as is_final
    from agentmill.load_ledger
    where table_name = 'agent_metrics_daily'
) as published
