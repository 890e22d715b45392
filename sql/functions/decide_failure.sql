-- The id of what is entered: what a person decides about a failure, and why.
--
-- `cluster_id` is any signature of the failure, or the first characters of one, at least six. `action` is resolve,
-- reopen, mute or unmute. It holds from `effective_at` on (now), in one environment or in all. Nothing is ever changed or
-- taken back: decide something else instead. All signatures that the failure has at the moment are kept with it. States
-- follow with the next run, at once where the command line is used.
create function agentmill.decide_failure(
    cluster_id text,
    action text,
    reason text,
    decided_by text default session_user,
    environment text default null,
    effective_at timestamptz default null,
    muted_until timestamptz default null,
    until_escalating boolean default false,
    fixed_in_version text default null
)
returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
    entered bigint;
    starts_at timestamptz := coalesce(effective_at, clock_timestamp());
    clusters text[];
    places text[];
begin
    if coalesce(action, '') not in ('resolve', 'reopen', 'mute', 'unmute') then
        raise exception 'There is no action %: say resolve, reopen, mute or unmute.', coalesce(action, 'null');
    end if;
    if coalesce(reason, '') !~ '[^[:space:]]' or coalesce(decided_by, '') !~ '[^[:space:]]' then
        raise exception 'Say why, and who says so: reason and decided_by must not be blank.';
    end if;
    if starts_at > clock_timestamp() + interval '5 minutes' then
        raise exception 'A decision cannot hold from a time to come (%).', starts_at;
    end if;
    if fixed_in_version is not null and (action <> 'resolve' or fixed_in_version !~ '[^[:space:]]') then
        raise exception 'fixed_in_version names the version with the fix: it belongs to the action resolve, and to no other.';
    end if;
    if action <> 'mute' and (muted_until is not null or until_escalating) then
        raise exception 'muted_until and until_escalating belong to the action mute, and to no other.';
    end if;
    if muted_until <= starts_at then
        raise exception 'A mute until % would be over before it starts: name a time to come.', muted_until;
    end if;
    select array_agg(distinct known.cluster_id) into clusters
    from agentmill.failure_cluster_signatures as known
    where known.signature_id = decide_failure.cluster_id;
    if clusters is null and length(decide_failure.cluster_id) >= 6 then
        select array_agg(distinct known.cluster_id) into clusters
        from agentmill.failure_cluster_signatures as known
        where starts_with(known.signature_id, decide_failure.cluster_id);
    end if;
    if clusters is null then
        raise exception 'There is no failure %: give an id that `agentmill failures list` shows, or at least six characters of it.',
            coalesce(decide_failure.cluster_id, 'null');
    end if;
    if cardinality(clusters) > 1 then
        raise exception '% failures have an id that starts with %: give more of it.', cardinality(clusters), decide_failure.cluster_id;
    end if;
    if decide_failure.environment is not null then
        select array_agg(distinct fact.environment order by fact.environment) into places
        from agentmill.failure_signatures_daily as fact
        inner join agentmill.failure_cluster_signatures as known on known.signature_id = fact.signature_id
        where known.cluster_id = clusters[1] and fact.environment is not null;
        if places is null or decide_failure.environment <> all (places) then
            raise exception 'It was never seen in the environment %, but in: %.',
                decide_failure.environment, coalesce(array_to_string(places, ', '), 'none that has a name');
        end if;
    end if;
    insert into agentmill.failure_decisions as entry (
        effective_at, decided_by, cluster_id, signature_ids, environment, action, fixed_in_version, muted_until,
        until_escalating, reason
    )
    values (
        starts_at, decide_failure.decided_by, clusters[1],
        array(
            select known.signature_id
            from agentmill.failure_cluster_signatures as known
            where known.cluster_id = clusters[1]
            order by known.signature_id collate "C"
        ),
        decide_failure.environment, decide_failure.action,
        decide_failure.fixed_in_version, decide_failure.muted_until, coalesce(decide_failure.until_escalating, false),
        decide_failure.reason
    )
    returning entry.decision_id into entered;
    return entered;
end
$$;
