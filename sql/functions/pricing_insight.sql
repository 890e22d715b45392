-- One row per agent and execution type over a range of days (the last 30 by default): what outcomes cost and earn.
create function agentmill.pricing_insight(from_day date default null, to_day date default null)
returns table (
    agent_id text,
    agent_name text,
    execution_type text,
    execution_count bigint,
    success_count bigint,
    failure_count bigint,
    priced_count bigint,
    cost_usd numeric,
    cost_per_run_usd numeric,
    cost_per_success_usd numeric,
    failure_cost_usd numeric,
    failure_cost_share double precision,
    credited_count bigint,
    credits numeric,
    credits_per_run numeric,
    credits_per_success numeric,
    cost_per_credit_usd numeric,
    from_day date,
    to_day date,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel safe
as $$
    -- Asked for as scalars, a range finds its days by index; joined, all days would be read.
    with asked as materialized (
        select * from agentmill.reporting_days($1, $2)
    ),

    total as (
        select
            cube.agent_id,
            cube.execution_type,
            sum(cube.execution_count)::bigint as execution_count,
            coalesce(sum(cube.execution_count) filter (where cube.status = 'success'), 0)::bigint as success_count,
            coalesce(sum(cube.execution_count) filter (where cube.status in ('failed', 'timeout', 'error')), 0)::bigint
                as failure_count,
            sum(cube.priced_count)::bigint as priced_count,
            sum(cube.cost_usd) as cost_usd,
            sum(cube.cost_usd) filter (where cube.status in ('failed', 'timeout', 'error')) as failure_cost_usd,
            sum(cube.credited_count)::bigint as credited_count,
            sum(cube.credits) as credits
        from agentmill.execution_rollup_local_daily as cube
        where cube.day >= (select from_day from asked) and cube.day < (select to_day from asked)
        group by cube.agent_id, cube.execution_type
    )

    select
        total.agent_id,
        name.agent_name,
        total.execution_type,
        total.execution_count,
        total.success_count,
        total.failure_count,
        total.priced_count,
        total.cost_usd,
        total.cost_usd / nullif(total.priced_count, 0),
        total.cost_usd / nullif(total.success_count, 0),
        total.failure_cost_usd,
        (total.failure_cost_usd / nullif(total.cost_usd, 0))::double precision,
        total.credited_count,
        total.credits,
        total.credits / nullif(total.credited_count, 0),
        total.credits / nullif(total.success_count, 0),
        case
            when total.priced_count = total.execution_count and total.credited_count = total.execution_count
                then total.cost_usd / nullif(total.credits, 0)
        end,
        asked.from_day,
        asked.to_day,
        published.published_at,
        published.is_final
    from total
    cross join asked
    left join agentmill.agent_names as name using (agent_id)
    cross join lateral agentmill.published_range(asked.from_day, asked.to_day) as published
    order by total.cost_usd desc nulls last, total.agent_id, total.execution_type
$$;
