"""The spine: executions, the ledger that accounts for them, rollups, failures and regression candidates."""

from alembic import op

revision = "0001"
down_revision = None

_UPGRADE = """
create schema agentmill_partitions;
create schema agentmill_staging;

create table agentmill.executions (
    source text not null,
    execution_id text not null,
    trace_id text,
    parent_id text,
    operation_id text,
    attempt bigint,
    row_hash text not null,
    agent_id text not null,
    agent_name text not null,
    agent_version text,
    execution_type text,
    framework text,
    environment text,
    release text,
    project_id text,
    user_key text,
    session_key text,
    client_ip_prefix text,
    client_family text,
    status text not null check (status in ('success', 'partial', 'failed', 'timeout', 'error', 'cancelled')),
    status_raw text,
    http_status bigint,
    error_type text,
    error_code text,
    error_message text,
    stack text,
    finish_reason text,
    started_at timestamptz,
    completed_at timestamptz,
    event_time timestamptz not null,
    duration_ms bigint check (duration_ms >= 0),
    response_time_ms bigint,
    processing_time_ms bigint,
    queue_time_ms bigint,
    ttft_ms bigint,
    provider text,
    model text,
    request_model text,
    temperature double precision check (temperature <> 'NaN'),
    prompt_name text,
    prompt_version text,
    input_tokens bigint check (input_tokens >= 0),
    cache_read_tokens bigint check (cache_read_tokens >= 0),
    cache_write_tokens bigint check (cache_write_tokens >= 0),
    output_tokens bigint check (output_tokens >= 0),
    reasoning_tokens bigint check (reasoning_tokens >= 0),
    cost_usd numeric(38, 10) check (cost_usd <> 'NaN' and abs(cost_usd) < 1e15),
    cost_source text not null check ((cost_source = 'unpriced') = (cost_usd is null)),
    credits numeric(38, 10) check (credits <> 'NaN' and abs(credits) < 1e15),
    llm_calls bigint,
    tool_calls bigint,
    tool_names text[],
    files_modified bigint,
    input_bytes bigint,
    output_bytes bigint,
    input_type text,
    output_type text,
    input_shape text,
    output_shape text,
    quality_flags text[] not null,
    redactions jsonb,
    attributes jsonb
) partition by range (event_time);

create table agentmill.load_ledger (
    table_name text not null,
    day date not null,
    load_id uuid not null,
    content_sha256 text not null,
    row_count bigint not null,
    code_version text not null,
    key_id text,
    published_at timestamptz not null default clock_timestamp(),
    primary key (table_name, day)
);

create table agentmill.receipts_daily (
    day date not null,
    source text not null,
    received_count bigint not null,
    clean_count bigint not null,
    quarantined_count bigint not null,
    duplicate_count bigint not null,
    conflict_count bigint not null,
    quarantined_by_reason jsonb not null,
    input_count bigint not null,
    growing_count bigint not null,
    primary key (day, source),
    check (received_count = clean_count + quarantined_count + duplicate_count)
);

create table agentmill.execution_rollup_hourly (
    day date not null,
    hour timestamptz not null,
    agent_id text not null,
    agent_version text,
    environment text,
    execution_type text,
    provider text,
    model text,
    status text not null,
    failure_category text,
    execution_count bigint not null,
    duration_count bigint not null,
    duration_sum_ms bigint,
    priced_count bigint not null,
    cost_usd numeric(38, 10),
    metered_count bigint not null,
    input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cache_read_count bigint not null,
    credited_count bigint not null,
    credits numeric(38, 10),
    llm_calls bigint,
    tool_calls bigint,
    files_modified bigint,
    unique nulls not distinct
        (day, hour, agent_id, agent_version, environment, execution_type, provider, model, status, failure_category)
);

create table agentmill.agent_metrics_hourly (
    day date not null,
    hour timestamptz not null,
    agent_id text not null,
    {agent_metrics},
    primary key (day, hour, agent_id)
);

create table agentmill.agent_metrics_daily (
    day date not null,
    agent_id text not null,
    {agent_metrics},
    primary key (day, agent_id)
);

create table agentmill.model_metrics_daily (
    day date not null,
    provider text,
    model text,
    {metrics},
    unique nulls not distinct (day, provider, model)
);

create table agentmill.failure_signatures_daily (
    day date not null,
    signature_id text not null,
    template text not null,
    match_key text not null,
    category text not null,
    severity text not null,
    fault_domain text not null,
    occurrence_count bigint not null,
    first_seen_at timestamptz not null,
    second_seen_at timestamptz,
    third_seen_at timestamptz,
    previous_seen_at timestamptz,
    last_seen_at timestamptz not null,
    agent_ids text[] not null,
    agent_versions text[] not null,
    models text[] not null,
    user_keys text[] not null,
    sample_message text not null,
    sample_execution_ids text[] not null,
    primary key (day, signature_id)
);

create table agentmill.failure_clusters (
    cluster_id text primary key,
    template text not null,
    category text not null,
    severity text not null,
    fault_domain text not null,
    signature_ids text[] not null,
    occurrence_count bigint not null,
    day_count bigint not null,
    user_count bigint not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    agent_ids text[] not null,
    agent_versions text[] not null,
    models text[] not null,
    sample_message text not null,
    sample_execution_ids text[] not null
);

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

_METRICS = """
    execution_count bigint not null,
    success_count bigint not null,
    partial_count bigint not null,
    failed_count bigint not null,
    timeout_count bigint not null,
    error_count bigint not null,
    cancelled_count bigint not null,
    failure_count bigint not null,
    success_rate double precision,
    success_rate_with_partial double precision,
    user_count bigint not null,
    identified_count bigint not null,
    duration_count bigint not null,
    duration_avg_ms double precision,
    duration_min_ms bigint,
    duration_max_ms bigint,
    duration_p50_ms double precision,
    duration_p95_ms double precision,
    duration_p99_ms double precision,
    priced_count bigint not null,
    unpriced_count bigint not null,
    cost_usd numeric(38, 10),
    metered_count bigint not null,
    input_tokens bigint,
    cache_read_tokens bigint,
    output_tokens bigint,
    cache_read_count bigint not null,
    credited_count bigint not null,
    credits numeric(38, 10)
""".strip()

_DOWNGRADE = """
drop table agentmill.regression_candidates, agentmill.failure_clusters, agentmill.failure_signatures_daily,
    agentmill.model_metrics_daily, agentmill.agent_metrics_daily, agentmill.agent_metrics_hourly,
    agentmill.execution_rollup_hourly, agentmill.receipts_daily, agentmill.load_ledger, agentmill.executions;
drop schema agentmill_partitions, agentmill_staging;
"""


def upgrade() -> None:
    """Create everything the first release publishes."""
    agent_metrics = "agent_name text not null,\n    " + _METRICS
    op.execute(_UPGRADE.replace("{agent_metrics}", agent_metrics).replace("{metrics}", _METRICS))


def downgrade() -> None:
    """Drop it all, published data included."""
    op.execute(_DOWNGRADE)
