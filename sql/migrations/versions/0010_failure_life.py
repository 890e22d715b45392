"""Failures by dimension, their life cycle, what people decide about them, and the results of regression tests."""

from alembic import op

revision = "0010"
down_revision = "0009"

_UPGRADE = """
-- Facts get finer: what was an array of all that a signature hit is now a row for each. Days of before tell the parts
-- that were alone; those that were several are told again by the next run of the day.
alter table agentmill.failure_signatures_daily
    drop constraint failure_signatures_daily_pkey,
    add column environment text,
    add column release text,
    add column agent_id text,
    add column agent_version text,
    add column execution_type text,
    add column provider text,
    add column model text,
    add column session_count bigint not null default 0,
    add column ended_session_count bigint not null default 0,
    add column shaped_count bigint not null default 0,
    add column same_input_count bigint not null default 0;
update agentmill.failure_signatures_daily
set
    agent_id = case when cardinality(agent_ids) = 1 then agent_ids[1] end,
    agent_version = case when cardinality(agent_versions) = 1 then agent_versions[1] end,
    model = case when cardinality(models) = 1 then models[1] end;
alter table agentmill.failure_signatures_daily
    drop column agent_ids,
    drop column agent_versions,
    drop column models,
    alter column session_count drop default,
    alter column ended_session_count drop default,
    alter column shaped_count drop default,
    alter column same_input_count drop default,
    add unique nulls not distinct
        (day, signature_id, environment, release, agent_id, agent_version, execution_type, provider, model);
create index on agentmill.failure_signatures_daily (signature_id);

create table agentmill.failure_occurrences (
    day date not null,
    source text not null,
    execution_id text not null,
    event_time timestamptz not null,
    signature_id text not null,
    primary key (day, source, execution_id)
);
create index on agentmill.failure_occurrences (signature_id, event_time);

alter table agentmill.failure_clusters
    add column title text not null default '',
    add column is_retryable boolean not null default false,
    add column category_rule text,
    add column category_evidence text,
    add column environments text[] not null default '{}',
    add column releases text[] not null default '{}',
    add column failure_share double precision,
    add column last_week_count bigint not null default 0,
    add column week_before_count bigint not null default 0,
    add column trend text not null default 'unknown',
    add column session_count bigint not null default 0,
    add column ended_session_count bigint not null default 0,
    add column shaped_count bigint not null default 0,
    add column same_input_count bigint not null default 0;

create table agentmill.failure_cluster_signatures (
    signature_id text primary key,
    cluster_id text not null,
    first_day date,
    occurrence_count bigint not null
);
create index on agentmill.failure_cluster_signatures (cluster_id);

create table agentmill.failure_states (
    cluster_id text not null,
    environment text,
    state text not null,
    activity text not null,
    since timestamptz not null,
    reason text not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    occurrence_count bigint not null,
    last_day_count bigint not null,
    expected_day_count double precision,
    silent_days bigint not null,
    resolved_at timestamptz,
    resolved_in_version text,
    muted_until timestamptz,
    unique nulls not distinct (cluster_id, environment)
);

create table agentmill.failure_transitions (
    cluster_id text not null,
    environment text,
    changed_at timestamptz not null,
    ordinal bigint not null,
    from_state text,
    to_state text not null,
    reason text not null,
    unique nulls not distinct (cluster_id, environment, ordinal)
);

create table agentmill.failure_differences (
    cluster_id text not null,
    dimension text not null,
    value text,
    agent_id text,
    occurrence_count bigint not null,
    execution_count bigint not null,
    failure_rate double precision not null,
    other_rate double precision not null,
    lift double precision,
    lift_low double precision,
    lift_high double precision,
    adjusted_p_value double precision not null,
    rank bigint not null,
    unique nulls not distinct (cluster_id, dimension, value, agent_id)
);

create table agentmill.failure_decisions (
    decision_id bigint generated always as identity primary key,
    decided_at timestamptz not null default clock_timestamp(),
    effective_at timestamptz not null default clock_timestamp(),
    decided_by text not null check (decided_by ~ '[^[:space:]]'),
    database_user text not null default session_user,
    cluster_id text not null,
    signature_ids text[] not null,
    environment text,
    action text not null check (action in ('resolve', 'reopen', 'mute', 'unmute')),
    fixed_in_version text,
    muted_until timestamptz,
    until_escalating boolean not null default false,
    reason text not null check (reason ~ '[^[:space:]]')
);

create table agentmill.signature_aliases (
    alias_id bigint generated always as identity primary key,
    adopted_at timestamptz not null default clock_timestamp(),
    adopted_by text not null check (adopted_by ~ '[^[:space:]]'),
    database_user text not null default session_user,
    old_signature_id text not null,
    new_signature_id text not null,
    rules_version bigint not null,
    occurrence_count bigint not null,
    reason text not null check (reason ~ '[^[:space:]]')
);

drop table agentmill.regression_candidates;
delete from agentmill.load_ledger where table_name = 'regression_candidates';
create table agentmill.regression_candidates (
    candidate_id text primary key,
    cluster_id text not null,
    kind text not null,
    state text not null,
    state_reason text not null,
    state_since timestamptz not null,
    reviewed_by text,
    merged_into text,
    is_blocking boolean not null,
    policy text not null,
    struck_at timestamptz not null,
    window_started_at timestamptz not null,
    window_occurrence_count bigint not null,
    gates jsonb not null,
    priority double precision not null,
    priority_parts jsonb not null,
    evidence_execution_ids text[] not null
);

create table agentmill.candidate_reviews (
    review_id bigint generated always as identity primary key,
    reviewed_at timestamptz not null default clock_timestamp(),
    reviewed_by text not null check (reviewed_by ~ '[^[:space:]]'),
    database_user text not null default session_user,
    candidate_id text not null,
    signature_ids text[] not null,
    action text not null check (action in ('approve', 'reject', 'merge', 'retire', 'reopen')),
    merged_into text check ((action = 'merge') = (merged_into is not null)),
    is_blocking boolean not null default true,
    fixture jsonb,
    reason text not null check (reason ~ '[^[:space:]]')
);

create table agentmill.regression_case_inputs (
    case_id text primary key,
    frozen_at timestamptz not null default clock_timestamp(),
    agent_id text,
    agent_name text,
    structures jsonb not null,
    controls jsonb not null
);

create table agentmill.regression_result_files (
    file_sha256 text not null,
    agent_version text,
    environment text,
    file_name text not null,
    format text not null,
    imported_at timestamptz not null default clock_timestamp(),
    result_count bigint not null,
    problem text,
    notes text,
    unique nulls not distinct (file_sha256, agent_version, environment)
);

create table agentmill.regression_results (
    result_id text primary key,
    file_sha256 text not null,
    run_id text not null,
    case_id text not null,
    part text not null,
    repetition bigint not null,
    executed_at timestamptz not null,
    outcome text not null check (outcome in ('pass', 'fail', 'error', 'skipped')),
    duration_ms bigint,
    agent_version text,
    environment text,
    message text,
    signature_id text,
    is_same_failure boolean
);
create index on agentmill.regression_results (case_id, executed_at);

create table agentmill.regression_cases (
    case_id text primary key,
    candidate_id text not null,
    cluster_id text not null,
    agent_id text,
    kind text not null,
    state text not null,
    state_reason text not null,
    is_blocking boolean not null,
    approved_at timestamptz not null,
    approved_by text not null,
    run_count bigint not null,
    pass_count bigint not null,
    fail_count bigint not null,
    error_count bigint not null,
    skipped_count bigint not null,
    pass_rate double precision,
    is_flaky boolean not null,
    confidence_score double precision,
    first_run_at timestamptz,
    last_run_at timestamptz,
    last_outcome text,
    last_version text,
    passing_since timestamptz
);
"""

_DOWNGRADE = """
create temporary table merged_facts on commit drop as
with seen as (
    select day, signature_id, array_agg(at order by at) as times
    from agentmill.failure_signatures_daily as fact
    cross join lateral unnest(
        case least(occurrence_count, 5)
            when 1 then array[first_seen_at]
            when 2 then array[first_seen_at, last_seen_at]
            when 3 then array[first_seen_at, second_seen_at, last_seen_at]
            when 4 then array[first_seen_at, second_seen_at, third_seen_at, last_seen_at]
            else array[first_seen_at, second_seen_at, third_seen_at, previous_seen_at, last_seen_at]
        end
    ) as at
    group by day, signature_id
),

hit as (
    select day, signature_id, array_agg(distinct user_key order by user_key) as user_keys
    from agentmill.failure_signatures_daily cross join lateral unnest(user_keys) as user_key
    group by day, signature_id
),

merged as (
    select
        day,
        signature_id,
        min(template) as template,
        min(match_key) as match_key,
        min(category) as category,
        min(severity) as severity,
        min(fault_domain) as fault_domain,
        sum(occurrence_count)::bigint as occurrence_count,
        sum(reported_count)::bigint as reported_count,
        array_remove(array_agg(distinct agent_id), null) as agent_ids,
        array_remove(array_agg(distinct agent_version), null) as agent_versions,
        array_remove(array_agg(distinct model), null) as models,
        min(sample_message) as sample_message
    from agentmill.failure_signatures_daily
    group by day, signature_id
),

sampled as (
    select distinct on (day, signature_id) day, signature_id, sample_execution_ids
    from agentmill.failure_signatures_daily
    order by day, signature_id, first_seen_at
)

select merged.*, seen.times, coalesce(hit.user_keys, '{}') as user_keys, sampled.sample_execution_ids
from merged
inner join seen using (day, signature_id)
inner join sampled using (day, signature_id)
left join hit using (day, signature_id);
truncate agentmill.failure_signatures_daily;

drop table
    agentmill.regression_cases, agentmill.regression_results, agentmill.regression_result_files,
    agentmill.regression_case_inputs, agentmill.candidate_reviews, agentmill.regression_candidates,
    agentmill.signature_aliases, agentmill.failure_decisions, agentmill.failure_differences,
    agentmill.failure_transitions, agentmill.failure_states, agentmill.failure_cluster_signatures,
    agentmill.failure_occurrences;
delete from agentmill.load_ledger
where table_name in (
    'regression_cases', 'regression_candidates', 'failure_differences', 'failure_transitions', 'failure_states',
    'failure_cluster_signatures', 'failure_occurrences'
);
alter table agentmill.failure_clusters
    drop column title,
    drop column is_retryable,
    drop column category_rule,
    drop column category_evidence,
    drop column environments,
    drop column releases,
    drop column failure_share,
    drop column last_week_count,
    drop column week_before_count,
    drop column trend,
    drop column session_count,
    drop column ended_session_count,
    drop column shaped_count,
    drop column same_input_count;
alter table agentmill.failure_signatures_daily
    drop column environment,
    drop column release,
    drop column agent_id,
    drop column agent_version,
    drop column execution_type,
    drop column provider,
    drop column model,
    drop column session_count,
    drop column ended_session_count,
    drop column shaped_count,
    drop column same_input_count,
    add column agent_ids text[],
    add column agent_versions text[],
    add column models text[];
drop index agentmill.failure_signatures_daily_signature_id_idx;
insert into agentmill.failure_signatures_daily (
    day, signature_id, template, match_key, category, severity, fault_domain, occurrence_count, reported_count,
    first_seen_at, second_seen_at, third_seen_at, previous_seen_at, last_seen_at, agent_ids, agent_versions, models,
    user_keys, sample_message, sample_execution_ids
)
select
    day, signature_id, template, match_key, category, severity, fault_domain, occurrence_count, reported_count,
    times[1], times[2], times[3], times[cardinality(times) - 1], times[cardinality(times)], agent_ids, agent_versions,
    models, user_keys, sample_message, sample_execution_ids
from merged_facts;
drop table merged_facts;
alter table agentmill.failure_signatures_daily
    alter column agent_ids set not null,
    alter column agent_versions set not null,
    alter column models set not null,
    add primary key (day, signature_id);
create table agentmill.regression_candidates (
    candidate_id text primary key,
    cluster_id text not null,
    kind text not null,
    state text not null,
    policy text not null,
    struck_at timestamptz not null,
    window_started_at timestamptz not null,
    window_occurrence_count bigint not null,
    gates jsonb not null,
    evidence_score double precision not null,
    evidence_execution_ids text[] not null
);
"""


def upgrade() -> None:
    """Add them; clusters and candidates are derived anew by the next run."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop what people decided and tests told; facts of failures are rebuilt by running the days again."""
    op.execute(_DOWNGRADE)
