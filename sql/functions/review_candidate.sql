-- The id of what is entered: what a person says about a candidate for a regression test, and why.
--
-- `action` is approve, reject, merge (into another candidate), retire or reopen. Nothing is ever changed or taken back:
-- say something else instead. The tables follow with their next run, at once where the command line is used.
create function agentmill.review_candidate(
    candidate_id text,
    action text,
    reason text,
    reviewed_by text default session_user,
    merged_into text default null,
    is_blocking boolean default true,
    fixture jsonb default null
)
returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
    entered bigint;
    unknown text;
begin
    if coalesce(action, '') not in ('approve', 'reject', 'merge', 'retire', 'reopen') then
        raise exception 'There is no action %: say approve, reject, merge, retire or reopen.', coalesce(action, 'null');
    end if;
    if coalesce(reason, '') !~ '[^[:space:]]' or coalesce(reviewed_by, '') !~ '[^[:space:]]' then
        raise exception 'Say why, and who says so: reason and reviewed_by must not be blank.';
    end if;
    if (action = 'merge') <> (merged_into is not null) then
        raise exception 'merged_into names the candidate to merge into: it belongs to the action merge, and to no other.';
    end if;
    select told.id into unknown
    from unnest(array[candidate_id, merged_into]) with ordinality as told (id, place)
    where (told.id is not null or told.place = 1) and not exists (
        select
        from agentmill.failure_cluster_signatures as known
        inner join agentmill.regression_candidates as candidate on candidate.cluster_id = known.cluster_id
        where told.id = 'rc_' || known.signature_id
    )
    limit 1;
    if found then
        raise exception 'There is no candidate %: `agentmill candidates list` shows those there are.', coalesce(unknown, 'null');
    end if;
    if merged_into = candidate_id then
        raise exception 'A candidate cannot be merged into itself.';
    end if;
    insert into agentmill.candidate_reviews as entry
        (reviewed_by, candidate_id, action, merged_into, is_blocking, fixture, reason)
    values (
        review_candidate.reviewed_by, review_candidate.candidate_id, review_candidate.action,
        review_candidate.merged_into, review_candidate.is_blocking, review_candidate.fixture, review_candidate.reason
    )
    returning entry.review_id into entered;
    return entered;
end
$$;
