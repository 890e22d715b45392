-- One row per agent, and one for all (agent_id null): seven days before `to_day` beside the seven before those.
-- By default the last seven days that are over. "no evidence of change" is an answer: the 95 % intervals decide. Where the
-- weeks have not the same number of loaded days, they are not compared.
-- Difference of rates: R. G. Newcombe, Statistics in Medicine 17 (1998), method 10. Median: between the ranks
-- floor(n/2 - 0.98 sqrt(n)) and its mirror image, as W. J. Conover, Practical Nonparametric Statistics; from 8 runs on.
create function agentmill.week_over_week(to_day date default null)
returns table (
    agent_id text,
    agent_name text,
    week_from_day date,
    week_to_day date,
    day_count bigint,
    previous_day_count bigint,
    execution_count bigint,
    previous_execution_count bigint,
    success_rate double precision,
    previous_success_rate double precision,
    success_rate_change double precision,
    success_rate_change_low double precision,
    success_rate_change_high double precision,
    success_verdict text,
    duration_count bigint,
    previous_duration_count bigint,
    duration_p50_ms double precision,
    previous_duration_p50_ms double precision,
    duration_p95_ms double precision,
    previous_duration_p95_ms double precision,
    duration_p95_ratio double precision,
    duration_verdict text,
    priced_count bigint,
    previous_priced_count bigint,
    cost_per_run_usd numeric,
    previous_cost_per_run_usd numeric,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel safe
as $$
    -- Asked for as scalars, a range finds its days by index; joined, all days would be read.
    with asked as materialized (
        select coalesce($1, (select max(day) + 1 from agentmill.published_days where is_final)) as to_day
    ),

    week as (
        select
            told.agent_id,
            (asked.to_day - 1 - told.day) / 7 as weeks_ago,
            sum(told.execution_count)::bigint as execution_count,
            sum(told.success_count)::bigint as success_count,
            sum(told.duration_count)::bigint as duration_count,
            agentmill.sketch_merge(told.duration_sketch) as duration_sketch,
            sum(told.priced_count)::bigint as priced_count,
            sum(told.cost_usd) / nullif(sum(told.priced_count), 0) as cost_per_run_usd
        from agentmill.agent_rollup_local_daily as told, asked
        where told.day >= (select to_day - 14 from asked) and told.day < (select to_day from asked)
        group by grouping sets ((told.agent_id, (asked.to_day - 1 - told.day) / 7), ((asked.to_day - 1 - told.day) / 7))
    ),

    loaded as (
        select
            count(*) filter (where published.day >= asked.to_day - 7) as day_count,
            count(*) filter (where published.day < asked.to_day - 7) as previous_day_count
        from asked
        join agentmill.published_days as published
            on published.day >= asked.to_day - 14 and published.day < asked.to_day
    ),

    figured as (
        select
            week.*,
            week.success_count::double precision / week.execution_count as rate,
            wilson.low,
            wilson.high,
            agentmill.sketch_percentile(week.duration_sketch, 50, week.duration_count) as p50,
            agentmill.sketch_percentile(week.duration_sketch, 95, week.duration_count) as p95,
            median.low as p50_low,
            median.high as p50_high
        from week
        cross join lateral agentmill.wilson_interval(week.success_count, week.execution_count) as wilson
        cross join lateral (
            select floor(n / 2 - 0.98 * sqrt(n)) as rank, n
            from (select week.duration_count::double precision as n) as held
        ) as below
        -- Half a rank keeps rounding from reaching the rank before.
        left join lateral (
            select
                agentmill.sketch_quantile(week.duration_sketch, (below.rank - 0.5) / nullif(n - 1, 0)) as low,
                agentmill.sketch_quantile(week.duration_sketch, least(1, (n - below.rank + 0.5) / nullif(n - 1, 0)))
                    as high
        ) as median on below.rank >= 1 and agentmill.sketch_count(week.duration_sketch) = week.duration_count
    ),

    compared as (
        select
            coalesce(now.agent_id, before.agent_id) as agent_id,
            coalesce(now.execution_count, 0) as execution_count,
            coalesce(before.execution_count, 0) as previous_execution_count,
            now.rate,
            before.rate as previous_rate,
            now.rate - before.rate as change,
            now.rate - before.rate - sqrt((now.rate - now.low) ^ 2 + (before.high - before.rate) ^ 2) as change_low,
            now.rate - before.rate + sqrt((now.high - now.rate) ^ 2 + (before.rate - before.low) ^ 2) as change_high,
            coalesce(now.duration_count, 0) as duration_count,
            coalesce(before.duration_count, 0) as previous_duration_count,
            now.p50, before.p50 as previous_p50,
            now.p95, before.p95 as previous_p95,
            now.p50_low, now.p50_high,
            before.p50_low as previous_p50_low, before.p50_high as previous_p50_high,
            coalesce(now.priced_count, 0) as priced_count,
            coalesce(before.priced_count, 0) as previous_priced_count,
            now.cost_per_run_usd,
            before.cost_per_run_usd as previous_cost_per_run_usd
        from (select * from figured where weeks_ago = 0) as now
        full join (select * from figured where weeks_ago = 1) as before
            on coalesce(before.agent_id, '') = coalesce(now.agent_id, '')
    )

    select
        compared.agent_id,
        name.agent_name,
        asked.to_day - 7,
        asked.to_day,
        loaded.day_count, loaded.previous_day_count,
        execution_count, previous_execution_count,
        rate, previous_rate,
        change, change_low, change_high,
        case
            when loaded.day_count <> loaded.previous_day_count then null
            when change_low > 0 then 'better'
            when change_high < 0 then 'worse'
            when change is not null then 'no evidence of change'
        end,
        duration_count, previous_duration_count,
        p50, previous_p50,
        p95, previous_p95,
        p95 / nullif(previous_p95, 0),
        case
            when loaded.day_count <> loaded.previous_day_count then null
            when p50_low > previous_p50_high then 'slower'
            when p50_high < previous_p50_low then 'faster'
            when p50 is not null and previous_p50 is not null then 'no evidence of change'
        end,
        priced_count, previous_priced_count,
        cost_per_run_usd, previous_cost_per_run_usd,
        published.published_at,
        published.is_final
    from compared
    cross join asked
    cross join loaded
    left join agentmill.agent_names as name on name.agent_id = compared.agent_id
    cross join lateral agentmill.published_range(asked.to_day - 14, asked.to_day) as published
    order by compared.agent_id nulls first
$$;
