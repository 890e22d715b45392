-- One row per failure (cluster) over a range of UTC days (the last 30 by default), most frequent first.
-- In words of its most frequent member; category, severity and domain are those of the cluster, as people may have decided.
-- A failure that is in no cluster yet is its own.
create function agentmill.error_breakdown(from_day date default null, to_day date default null)
returns table (
    rank bigint,
    cluster_id text,
    category text,
    severity text,
    fault_domain text,
    template text,
    occurrence_count bigint,
    failure_share double precision,
    cumulative_share double precision,
    active_days bigint,
    agent_count bigint,
    model_count bigint,
    first_seen_at timestamptz,
    last_seen_at timestamptz,
    from_day date,
    to_day date,
    published_at timestamptz,
    is_final boolean
)
language sql stable parallel safe
as $$
    with asked as materialized (
        select * from agentmill.reporting_days($1, $2)
    ),

    member as (
        select cluster.cluster_id, signature_id
        from agentmill.failure_clusters as cluster
        cross join lateral unnest(cluster.signature_ids) as signature_id
    ),

    fact as (
        select
            coalesce(member.cluster_id, seen.signature_id) as cluster_id,
            seen.day, seen.signature_id, seen.template, seen.category, seen.severity, seen.fault_domain,
            seen.occurrence_count, seen.agent_id, seen.model, seen.first_seen_at, seen.last_seen_at
        from asked
        join agentmill.failure_signatures_daily as seen on seen.day >= asked.from_day and seen.day < asked.to_day
        left join member on member.signature_id = seen.signature_id
    ),

    counted as (
        select
            cluster_id,
            sum(occurrence_count)::bigint as occurrence_count,
            count(distinct day) as active_days,
            count(distinct agent_id) as agent_count,
            count(distinct model) as model_count,
            min(first_seen_at) as first_seen_at,
            max(last_seen_at) as last_seen_at
        from fact
        group by cluster_id
    ),

    worded as (
        select distinct on (cluster_id) cluster_id, category, severity, fault_domain, template
        from (select *, sum(occurrence_count) over (partition by signature_id) as frequency from fact) as member
        order by cluster_id, frequency desc, day, signature_id
    )

    select
        row_number() over frequent,
        counted.cluster_id,
        coalesce(known.category, worded.category),
        coalesce(known.severity, worded.severity),
        coalesce(known.fault_domain, worded.fault_domain),
        worded.template,
        counted.occurrence_count,
        (counted.occurrence_count / sum(counted.occurrence_count) over ())::double precision,
        (sum(counted.occurrence_count) over frequent / sum(counted.occurrence_count) over ())::double precision,
        counted.active_days,
        counted.agent_count,
        counted.model_count,
        counted.first_seen_at,
        counted.last_seen_at,
        asked.from_day,
        asked.to_day,
        published.published_at,
        published.is_final
    from counted
    join worded using (cluster_id)
    left join agentmill.failure_clusters as known using (cluster_id)
    cross join asked
    cross join lateral (
        select
            max(ledger.published_at) as published_at,
            bool_and(agentmill.was_over(ledger.day, ledger.published_at)) as is_final
        from agentmill.load_ledger as ledger
        where ledger.table_name = 'failure_signatures_daily'
            and ledger.day >= asked.from_day and ledger.day < asked.to_day
    ) as published
    window frequent as (order by counted.occurrence_count desc, counted.cluster_id)
    order by 1
$$;
