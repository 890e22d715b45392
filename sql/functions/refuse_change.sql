-- A trigger: what people decided, what cases are run on and what tests told is only ever added to, by whomever.
create function agentmill.refuse_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
    raise exception '% is only ever added to: %', tg_table_name, case tg_table_name
        when 'failure_decisions' then 'decide something else with agentmill.decide_failure(...); the last decision counts.'
        when 'candidate_reviews' then 'say something else with agentmill.review_candidate(...); the last review counts.'
        when 'signature_aliases' then 'adopt the signatures once more; the last alias counts.'
        when 'regression_case_inputs' then 'approve the candidate once more with a fixture; that is used instead.'
        else 'import another file of results; a run keeps what it told.'
    end
    using errcode = 'object_not_in_prerequisite_state';
end
$$;

create trigger never_changed before update or delete or truncate on agentmill.failure_decisions
for each statement execute function agentmill.refuse_change();

create trigger never_changed before update or delete or truncate on agentmill.candidate_reviews
for each statement execute function agentmill.refuse_change();

create trigger never_changed before update or delete or truncate on agentmill.signature_aliases
for each statement execute function agentmill.refuse_change();

create trigger never_changed before update or delete or truncate on agentmill.regression_case_inputs
for each statement execute function agentmill.refuse_change();

create trigger never_changed before update or delete or truncate on agentmill.regression_results
for each statement execute function agentmill.refuse_change();

create trigger never_changed before update or delete or truncate on agentmill.regression_result_files
for each statement execute function agentmill.refuse_change();
