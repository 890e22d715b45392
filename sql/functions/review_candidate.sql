-- The id of what is entered: what a person says about a candidate for a regression test, and why.
--
-- `action` is approve, reject, merge (into another candidate), retire or reopen. A candidate may be named by any signature
-- of its failure. It can be merged into one that is proposed or approved; an approved one only into an approved one, so
-- that no test vanishes. Nothing is ever changed or taken back: say something else instead. All signatures that the failure
-- has at the moment are kept with it. The tables follow with their next run, at once where the command line is used.
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
    source agentmill.regression_candidates;
    target agentmill.regression_candidates;
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
    select candidate.* into source
    from agentmill.failure_cluster_signatures as known
    inner join agentmill.regression_candidates as candidate on candidate.cluster_id = known.cluster_id
    where review_candidate.candidate_id = 'rc_' || known.signature_id;
    if not found then
        raise exception 'There is no candidate %: `agentmill candidates list` shows those there are.',
            coalesce(candidate_id, 'null');
    end if;
    if action = 'merge' then
        select candidate.* into target
        from agentmill.failure_cluster_signatures as known
        inner join agentmill.regression_candidates as candidate on candidate.cluster_id = known.cluster_id
        where review_candidate.merged_into = 'rc_' || known.signature_id;
        if not found then
            raise exception 'There is no candidate %: `agentmill candidates list` shows those there are.', merged_into;
        end if;
        if target.cluster_id = source.cluster_id then
            raise exception 'A candidate cannot be merged into itself: % and % are one failure.', candidate_id, merged_into;
        end if;
        if target.state not in ('proposed', 'approved') then
            raise exception '% is %: merge into a candidate that is proposed or approved.', merged_into, target.state;
        end if;
        if source.state = 'approved' and target.state <> 'approved' then
            raise exception '% is approved and % is not: approve that first, or the test of the failure would be lost.',
                candidate_id, merged_into;
        end if;
    end if;
    insert into agentmill.candidate_reviews as entry
        (reviewed_by, candidate_id, signature_ids, action, merged_into, is_blocking, fixture, reason)
    values (
        review_candidate.reviewed_by, review_candidate.candidate_id,
        array(
            select known.signature_id
            from agentmill.failure_cluster_signatures as known
            where known.cluster_id = source.cluster_id
            order by known.signature_id collate "C"
        ),
        review_candidate.action, review_candidate.merged_into, review_candidate.is_blocking,
        nullif(review_candidate.fixture, 'null'::jsonb), review_candidate.reason
    )
    returning entry.review_id into entered;
    return entered;
end
$$;
