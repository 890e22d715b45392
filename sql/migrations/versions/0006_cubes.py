"""Cubes by day and quarter of an hour beside the hourly one, times to first token, and sketches of what is measured."""

from alembic import op

revision = "0006"
down_revision = "0005"

_DIMENSIONS = "agent_id, agent_version, environment, execution_type, provider, model, status, failure_category"
_COUNTS = "execution_count, duration_count, priced_count, metered_count, cache_read_count, credited_count, ttft_count"
_SUMS = (
    "duration_sum_ms, cost_usd, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, "
    "credits, llm_calls, tool_calls, files_modified, ttft_sum_ms"
)

_UPGRADE = f"""
alter table agentmill.execution_rollup_hourly
    add column ttft_count bigint not null default 0,
    add column ttft_sum_ms bigint,
    add column duration_sketch integer[],
    add column ttft_sketch integer[],
    add column cost_sketch integer[];
create index execution_rollup_hourly_hour on agentmill.execution_rollup_hourly (hour);

create table agentmill.execution_rollup_daily (like agentmill.execution_rollup_hourly including defaults);
alter table agentmill.execution_rollup_daily
    drop column hour,
    add unique nulls not distinct (day, {_DIMENSIONS});

create table agentmill.execution_rollup_quarter_hourly (like agentmill.execution_rollup_hourly including defaults);
alter table agentmill.execution_rollup_quarter_hourly rename column hour to quarter;
alter table agentmill.execution_rollup_quarter_hourly
    add unique nulls not distinct (day, quarter, {_DIMENSIONS});
create index execution_rollup_quarter_hourly_quarter on agentmill.execution_rollup_quarter_hourly (quarter);

alter table agentmill.agent_metrics_hourly
    add column duration_sketch integer[];
alter table agentmill.agent_metrics_daily
    add column duration_sketch integer[],
    add column ttft_sketch integer[],
    add column cost_sketch integer[];
alter table agentmill.model_metrics_daily
    add column cache_saving_usd numeric(38, 10),
    add column duration_sketch integer[],
    add column ttft_sketch integer[],
    add column cost_sketch integer[];

insert into agentmill.execution_rollup_daily (day, {_DIMENSIONS}, {_COUNTS}, {_SUMS})
select day, {_DIMENSIONS}, {", ".join(f"sum({name})" for name in f"{_COUNTS}, {_SUMS}".split(", "))}
from agentmill.execution_rollup_hourly
group by day, {_DIMENSIONS};

-- Their content is not that of a run, so that the next run of a day replaces them.
insert into agentmill.load_ledger
    (table_name, day, load_id, content_sha256, row_count, code_version, key_id, published_at)
select
    'execution_rollup_daily', day, load_id, 'migrated ' || content_sha256,
    (select count(*) from agentmill.execution_rollup_daily as cube where cube.day = ledger.day),
    code_version, key_id, published_at
from agentmill.load_ledger as ledger
where table_name = 'execution_rollup_hourly';
"""  # noqa: S608 - our own words

_DOWNGRADE = """
delete from agentmill.load_ledger
where table_name in ('execution_rollup_daily', 'execution_rollup_quarter_hourly');
drop table agentmill.execution_rollup_daily, agentmill.execution_rollup_quarter_hourly;
drop index agentmill.execution_rollup_hourly_hour;
alter table agentmill.execution_rollup_hourly
    drop column ttft_count,
    drop column ttft_sum_ms,
    drop column duration_sketch,
    drop column ttft_sketch,
    drop column cost_sketch;
alter table agentmill.agent_metrics_hourly drop column duration_sketch;
alter table agentmill.agent_metrics_daily
    drop column duration_sketch,
    drop column ttft_sketch,
    drop column cost_sketch;
alter table agentmill.model_metrics_daily
    drop column cache_saving_usd,
    drop column duration_sketch,
    drop column ttft_sketch,
    drop column cost_sketch;
"""


def upgrade() -> None:
    """Add tables and columns. The daily cube of old days is added up; the rest is there when they are run again."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop them."""
    op.execute(_DOWNGRADE)
