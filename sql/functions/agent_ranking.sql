-- One row per agent over a range of days (the last 30 by default), best first: by its success rate, shrunken.
-- Few runs say little, so each agent starts with twenty at the rate p of all: (successes + 20 p) / (runs + 20), the
-- mean of a beta posterior. Equal rates are ordered by users, then by the cost of a success: `reason` has the words.
-- The number of users is null where it is not told to the reader: see `user_counts`.
create function agentmill.agent_ranking(from_day date default null, to_day date default null)
returns table (
    rank bigint,
    agent_id text,
    agent_name text,
    execution_count bigint,
    success_rate double precision,
    success_rate_shrunken double precision,
    user_count bigint,
    priced_count bigint,
    cost_per_success_usd numeric,
    reason text,
    from_day date,
    to_day date,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel restricted
as $$
    -- Asked for as scalars, a range finds its days by index; joined, all days would be read.
    with asked as materialized (
        select * from agentmill.reporting_days($1, $2)
    ),

    range as materialized (
        select min(local.starts_at) as from_time, max(local.ends_at) as to_time
        from agentmill.local_days() as local
        where local.day >= (select from_day from asked) and local.day < (select to_day from asked)
    ),

    total as (
        select
            told.agent_id,
            sum(told.execution_count)::bigint as execution_count,
            sum(told.success_count)::bigint as success_count,
            sum(told.priced_count)::bigint as priced_count,
            sum(told.cost_usd) as cost_usd
        from agentmill.agent_rollup_local_daily as told
        where told.day >= (select from_day from asked) and told.day < (select to_day from asked)
        group by told.agent_id
    ),

    audience as (
        select reached.agent_id, reached.user_count
        from range
        cross join lateral agentmill.user_counts(range.from_time, range.to_time) as reached
    ),

    shrunken as (
        select
            total.*,
            everyone.rate as everyone_rate,
            (total.success_count + 20 * everyone.rate) / (total.execution_count + 20) as rate,
            case when audience.agent_id is null then 0 else audience.user_count end as user_count,
            total.cost_usd / nullif(total.success_count, 0) as cost_per_success_usd
        from total
        left join audience using (agent_id)
        cross join (
            select sum(success_count)::double precision / sum(execution_count) as rate from total
        ) as everyone
    )

    select
        row_number() over best_first,
        shrunken.agent_id,
        name.agent_name,
        shrunken.execution_count,
        shrunken.success_count::double precision / shrunken.execution_count,
        shrunken.rate,
        shrunken.user_count,
        shrunken.priced_count,
        shrunken.cost_per_success_usd,
        format(
            '%s of %s runs succeeded (%s %%), counted as %s %% beside the %s %% of all agents; %s users; %s',
            shrunken.success_count,
            shrunken.execution_count,
            round((100.0 * shrunken.success_count / shrunken.execution_count), 1),
            round((100 * shrunken.rate)::numeric, 1),
            round((100 * shrunken.everyone_rate)::numeric, 1),
            coalesce(shrunken.user_count::text, 'few'),
            coalesce('$' || round(shrunken.cost_per_success_usd, 4) || ' a success', 'no cost known')
        ),
        asked.from_day,
        asked.to_day,
        published.published_at,
        published.is_final
    from shrunken
    cross join asked
    left join agentmill.agent_names as name using (agent_id)
    cross join lateral agentmill.published_range(asked.from_day, asked.to_day) as published
    window best_first as (
        order by
            shrunken.rate desc, shrunken.user_count desc nulls last, shrunken.cost_per_success_usd nulls last, shrunken.agent_id
    )
    order by 1
$$;
