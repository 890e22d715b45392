"""Every preset against the table it is made for, filled with traps: figures as SQL tells them at the source."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import DAY, NOW, as_frame

from pipelines.clean import clean, types_of
from pipelines.execution import EXECUTION
from pipelines.extract import extract
from pipelines.failures import signature_facts
from pipelines.publication import publish_day
from pipelines.record_types import EXECUTIONS
from pipelines.settings import ConfigError, parse_settings
from pipelines.sources.presets import preset_names
from pipelines.validate import validate
from pipelines.warehouse.executions import publish_records

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def compat(warehouse):
    """Answers a query that was written for the tables of before."""

    def ask(query):
        with warehouse.connect() as connection:
            connection.execute("set role agentmill_oncall")
            connection.execute("set search_path = compat")
            return connection.execute(query).fetchall()

    return ask


@pytest.fixture
def published(warehouse, lake, key, prices):
    """Publish a day of one source that a preset describes; answers questions about it."""

    def publish(preset, database, **overrides):
        source = {"preset": preset, "url": database.url, "max_quarantine_share": 1, **overrides}
        settings = parse_settings(json.dumps({"sources": {"app": source}}), Path("x"))
        configured = settings.sources["app"]
        receipt = extract(configured, [DAY], lake, NOW)[DAY]
        clean(DAY, [configured], lake, key, prices)
        validate(DAY, [configured], lake, prices)
        assert publish_day(DAY, lake, warehouse, prices)[0].outcome == "published"
        for kind in set(types_of([configured])) - {EXECUTIONS}:
            assert publish_records(kind, DAY, lake, warehouse).outcome == "published"
        return receipt

    return publish


def test_execution_log(mariadb, published, warehouse, compat):
    mariadb.run(
        "create table agentExecutionLogs (id int unsigned auto_increment primary key, userId varchar(36) not null,"
        " agentName varchar(255) not null, executionType varchar(50) not null,"
        " status enum('success', 'failed', 'partial') not null, errorMessage text, executedAt datetime not null)",
        "insert into agentExecutionLogs (userId, agentName, executionType, status, errorMessage, executedAt) values"
        " ('u1', 'planner', 'create', 'success', null, '2026-03-10 00:00:00'),"
        " ('u1', 'planner', 'create', 'failed', 'no row for ann@example.org', '2026-03-10 10:00:00'),"
        " ('u2', 'planner', 'update', 'partial', null, '2026-03-10 23:59:59'),"
        " ('u2', 'coder', 'update', 'success', '', '2026-03-10 12:00:00'),"
        " ('u3', 'coder', 'update', 'success', null, '2026-03-11 00:00:00'),"
        " ('u3', 'coder', 'update', 'success', null, '0000-00-00 00:00:00')",
    )
    receipt = published("execution_log", mariadb)
    (at_source,) = mariadb.run(
        "select count(*), sum(status = 'success'), sum(status = 'failed'), count(distinct userId),"
        " round(sum(status = 'success') / count(*) * 100, 2)"
        " from agentExecutionLogs where date(executedAt) = '2026-03-10'"
    )
    told = warehouse.read(
        "select count(*) as n, count(*) filter (where status = 'success') as s,"
        " count(*) filter (where status = 'failed') as f, count(distinct user_key) as u,"
        " round(100.0 * count(*) filter (where status = 'success') / count(*), 2) as rate from agentmill.executions"
    ).row(0)
    assert tuple(map(float, told)) == tuple(map(float, at_source))
    assert receipt.unplaced == 1
    by_agent = warehouse.read(
        "select agent_name, execution_count, partial_count, success_rate_with_partial::float8 "
        "from agentmill.agent_metrics_daily order by 1"
    ).rows()
    assert by_agent == [("coder", 1, 0, 1.0), ("planner", 3, 1, pytest.approx(2 / 3))]
    assert warehouse.read("select error_message from agentmill.executions where error_message is not null").rows() == [
        ("no row for <email>",)
    ]
    rates = mariadb.run(
        "select count(*), sum(status = 'success'), sum(status = 'failed'),"
        " round(sum(status = 'success') / count(*) * 100, 2) from agentExecutionLogs"
        " where agentName = 'planner' and executionType = 'create'"
        " and executedAt >= '2026-03-11' - interval 7 day and executedAt < '2026-03-11'"
    )
    assert rates == compat(
        """select count(*), count(*) filter (where status = 'success'), count(*) filter (where status = 'failed'),
        round(count(*) filter (where status = 'success')::numeric / count(*) * 100, 2) from "agentExecutionLogs"
        where "agentName" = 'planner' and "executionType" = 'create'
        and "executedAt" >= timestamptz '2026-03-11Z' - interval '7 days' and "executedAt" < '2026-03-11Z'"""
    )
    latest = compat(
        """select "agentName", "executionType", "errorMessage", to_char("executedAt", 'YYYY-MM-DD HH24:MI:SS')
        from "agentExecutionLogs" where status = 'failed' order by "executedAt" desc limit 20"""
    )
    assert latest == [("planner", "create", "no row for <email>", "2026-03-10 10:00:00")]


def test_marketplace_executions(postgres, published, warehouse, compat):
    postgres.run(
        """create type "ExecutionStatus" as enum ('success', 'failed', 'timeout', 'error')""",
        """create table "AgentExecution" (id text primary key, "agentId" text not null, "userId" text,
        "executionId" text unique not null, status "ExecutionStatus" not null, duration integer,
        "creditsConsumed" double precision, "httpStatus" integer, "errorCode" text, "errorMessage" text,
        "inputSize" integer, "outputSize" integer, "inputType" text, "outputType" text, "responseTime" integer,
        "processingTime" integer, "queueTime" integer, "sessionId" text, "userAgent" text, "ipAddress" text,
        "startedAt" timestamp(3), "completedAt" timestamp(3), "createdAt" timestamp(3) default now())""",
        """insert into "AgentExecution" select n::text, 'agent-' || n % 3, 'user-' || n % 7, 'exec-' || n,
        (array['success', 'failed', 'timeout', 'error'])[1 + n % 4]::"ExecutionStatus", n * 10, n * 0.25, 200 + n % 2,
        null, case when n % 4 > 0 then 'failed for 10.1.2.' || n end, n * 100, n, 'application/json', 'text', n * 9,
        n * 8, n, 'session-' || n % 5, 'Mozilla/5.0 (X11) Chrome/126.0', '10.1.2.' || n,
        timestamp '2026-03-10' + n * interval '20 minutes',
        timestamp '2026-03-10' + n * interval '20 minutes' + n * interval '10 ms' from generate_series(0, 100) n""",
    )
    published("marketplace_executions", postgres)
    at_source = postgres.run(
        """select "agentId", count(*), count(*) filter (where status = 'success'),
        count(*) filter (where status = 'timeout'), count(distinct "userId"), avg(duration)::float8, min(duration),
        max(duration), sum("creditsConsumed")::float8, percentile_cont(0.95) within group (order by duration)
        from "AgentExecution" where "startedAt" >= '2026-03-10' and "startedAt" < '2026-03-11' group by 1 order by 1"""
    )
    told = warehouse.read(
        "select agent_id, execution_count, success_count, timeout_count, user_count, duration_avg_ms, duration_min_ms,"
        " duration_max_ms, credits::float8, duration_p95_ms from agentmill.agent_metrics_daily order by 1"
    ).rows()
    assert len(told) == 3
    for ours, theirs in zip(told, at_source, strict=True):
        assert ours == pytest.approx(theirs)
    row = warehouse.read("select * from agentmill.executions order by event_time limit 1").row(0, named=True)
    assert (row["client_ip_prefix"], row["client_family"], row["http_status"]) == ("10.1.2.0/24", "Chrome 126", 200)
    of_day = """where "startedAt" >= '2026-03-10' and "startedAt" < '2026-03-11'"""
    by_status = f"""select "agentId", status::text, count(*), sum(duration), count(distinct "userId"),
        count(distinct "sessionId"), min("executionId"), max("httpStatus") from "AgentExecution" {of_day}
        group by 1, 2 order by 1, 2"""
    assert compat(by_status) == postgres.run(by_status)
    hourly = postgres.run(
        f"""select "agentId", extract(hour from "startedAt")::int, count(*),
        count(*) filter (where status = 'success'), count(*) filter (where status = 'failed'),
        count(*) filter (where status = 'timeout'), count(*) filter (where status = 'error'), avg(duration)::float8,
        count(distinct "userId"), sum("creditsConsumed")::numeric from "AgentExecution" {of_day}
        group by 1, 2 order by 1, 2"""
    )
    columns = """"totalExecutions", "successfulExecutions", "failedExecutions", "timeoutExecutions", "errorExecutions",
        "avgDuration", "uniqueUsers", "totalCreditsConsumed" """
    assert hourly == compat(
        f"""select "agentId", hour, {columns} from "AgentMetrics" where date = '2026-03-10' and hour is not null
        order by 1, 2"""
    )
    daily = compat(
        """select "agentId", "totalExecutions", "failedExecutions" + "timeoutExecutions" + "errorExecutions",
        (select sum(n::int) from jsonb_each_text("errorCounts") as counted (category, n))
        from "AgentMetrics" where hour is null"""
    )
    assert len(daily) == 3
    assert [failed for *_, failed, _ in daily] == [told for *_, told in daily]
    totals = postgres.run(
        f"""select "agentId", count(*), count(distinct "userId"), count(*) filter (where status = 'success')::text
        from "AgentExecution" {of_day} group by 1 order by 1"""
    )
    assert totals == compat(
        """select id, "totalExecutions", "totalUsers", stats ->> 'successfulExecutions' from "Agent" order by 1"""
    )
    users = """select "agentId", {} from {} group by "agentId", "userId" order by 1, 2, 3"""
    at_source = postgres.run(
        users.format("""count(*), count(*) filter (where status = 'success')""", f""""AgentExecution" {of_day}""")
    )
    told = users.format("""sum("totalExecutions"), sum("successfulExecutions")""", '"UserAgentInteraction"')
    assert compat(told) == at_source


def test_marketplace_logs(postgres, published, warehouse):
    postgres.run(
        """create type "LogCategory" as enum ('EXECUTION', 'SECURITY')""",
        """create table "AgentLog" (id text primary key, "executionId" text, "agentId" text, "userId" text,
        category "LogCategory" not null, level text not null, message text not null, context jsonb, metadata jsonb,
        timestamp timestamp(3) not null)""",
        """insert into "AgentLog" select 'log-' || n, case when n % 5 > 0 then 'exec-' || n % 4 end, 'agent-' || n % 3,
        'user-' || n % 7, (array['EXECUTION', 'SECURITY'])[1 + n % 2]::"LogCategory",
        (array['INFO', 'warn', 'Fatal', 'audit'])[1 + n % 4], 'mail to user' || n || '@example.org failed',
        case when n % 2 = 0 then jsonb_build_object('step', n, 'ann@example.org', 'secret') end, null,
        timestamp '2026-03-10' + n * interval '20 minutes' from generate_series(0, 100) n""",
    )
    receipt = published("marketplace_logs", postgres, attributes={"step": "context.step"})
    at_source = postgres.run(
        """select "agentId", category::text, count(*), count("executionId"), count(distinct "userId"), count(context),
        sum((context->>'step')::int) from "AgentLog" where timestamp >= '2026-03-10' and timestamp < '2026-03-11'
        group by 1, 2 order by 1, 2"""
    )
    told = warehouse.read(
        "select agent_id, category, count(*) as n, count(execution_id) as e, count(distinct user_key) as u, "
        "count(context_shape) as c,"
        " sum((attributes->>'step')::int) from agentmill.execution_logs group by 1, 2 order by 1, 2"
    ).rows()
    assert told == at_source
    assert receipt.records == 72
    levels = warehouse.read("select distinct level from agentmill.execution_logs order by 1").to_series().to_list()
    assert levels == ["audit", "critical", "info", "warning"]
    row = warehouse.read("select * from agentmill.execution_logs order by event_time limit 1").row(0, named=True)
    assert row["message"] == "mail to <email> failed"
    assert row["context_shape"] == "{<key>:str(2-9),step:int}"
    assert warehouse.read("select count(*) from agentmill.executions").item() == 0


def test_marketplace_preferences(postgres, published, warehouse):
    postgres.run(
        """create table "UserAgentInteraction" ("userId" text, "agentId" text not null, "isFavorite" boolean,
        rating smallint, feedback text, "updatedAt" timestamp(3))""",
        """insert into "UserAgentInteraction" values
        ('ann', 'a', true, 5, 'Call me at ann@example.org!', '2026-03-10 10:00'),
        ('ann', 'a', false, 2, null, '2026-03-10 09:00'),
        ('ann', 'b', null, 0, 'ok', '2026-03-10 11:00'),
        (null, 'b', true, 4, null, '2026-03-10 12:00'),
        ('bob', 'a', true, 1, null, null)""",
    )
    receipt = published("marketplace_preferences", postgres)
    rows = warehouse.read("select * from agentmill.user_agent_interactions order by agent_id").rows(named=True)
    assert [(row["agent_id"], row["is_favorite"], row["rating"], row["feedback"]) for row in rows] == [
        ("a", True, 5, "Call me at <email>!"),
        ("b", None, None, "ok"),
    ]
    assert {row["execution_count"] for row in rows} == {0}
    account = warehouse.read(
        "select received_count, clean_count, duplicate_count, quarantined_by_reason from agentmill.receipts_daily"
    )
    assert account.rows() == [(4, 2, 1, {"no_user": 1})]
    assert receipt.unplaced == 1


def make_generations(postgres):
    postgres.run(
        "create table generation_analytics (id serial, success boolean, framework text, metadata jsonb,"
        " user_id uuid, created_at timestamptz)",
        "insert into generation_analytics (success, framework, metadata, user_id, created_at) values"
        ' (true, \'react\', \'{"fileCount": 12, "duration": 3400, "phases": [1]}\', gen_random_uuid(),'
        " '2026-03-10 10:00Z'),"
        " (false, 'react', null, gen_random_uuid(), '2026-03-10 11:00Z'),"
        " (true, 'vue', '{\"fileCount\": 3}', null, '2026-03-10 23:00-05')",
        "create table generation_failures (id serial, error_type text, error_message text, failure_category text,"
        " severity text, occurrence_count int, stack_trace text, test_generated boolean, user_request text,"
        " framework text, user_id uuid, context jsonb, created_at timestamptz)",
        "insert into generation_failures (error_type, error_message, failure_category, severity, occurrence_count,"
        " test_generated, user_request, framework, created_at) values"
        " ('AITimeoutError', 'timed out after 30 s for ann@example.org', 'ai_timeout', 'high', 7, false, 'a shop',"
        " 'react', '2026-03-10 11:00Z')",
    )


def test_generation_analytics(postgres, published, warehouse, compat):
    make_generations(postgres)
    published("generation_analytics", postgres)
    rows = warehouse.read(
        "select agent_name, status, duration_ms, files_modified from agentmill.executions order by event_time"
    ).rows()
    assert rows == [("react", "success", 3400, 12), ("react", "failed", None, None)]
    at_source = postgres.run(
        "select framework, count(*), count(*) filter (where success), avg((metadata->>'duration')::int)::float8,"
        " count(distinct user_id), sum((metadata->>'fileCount')::int) from generation_analytics"
        " where created_at >= '2026-03-10Z' and created_at < '2026-03-11Z' group by 1 order by 1"
    )
    told = warehouse.read(
        "select agent_name, execution_count, success_count, duration_avg_ms, user_count,"
        " (select sum(files_modified) from agentmill.execution_rollup_hourly as cube"
        " where cube.agent_id = daily.agent_id)"
        " from agentmill.agent_metrics_daily as daily order by 1"
    ).rows()
    assert [tuple(map(str, row)) for row in told] == [tuple(map(str, row)) for row in at_source]
    health = """select count(*), count(*) filter (where not success), sum((metadata ->> 'fileCount')::int),
        sum((metadata ->> 'duration')::int), count(distinct framework) from generation_analytics
        where created_at >= timestamptz '2026-03-10 11:30Z' - interval '{}' and created_at < '2026-03-11Z'"""
    for window in ("1 hour", "12 hours"):
        assert compat(health.format(window)) == postgres.run(health.format(window))


def test_generation_failures(postgres, published, warehouse, compat):
    make_generations(postgres)
    published("generation_failures", postgres)
    row = warehouse.read("select * from agentmill.executions").row(0, named=True)
    assert (row["agent_name"], row["status"]) == ("react failure catalogue", "failed")
    assert row["error_message"] == "timed out after 30 s for <email>"
    assert row["attributes"]["severity"] == "high"
    assert row["occurrences"] == 7
    facts = signature_facts(as_frame([row | {"attributes": None, "redactions": None}], EXECUTION))
    at_source = postgres.run(
        "select count(*), sum(occurrence_count) from generation_failures where created_at < '2026-03-11Z'"
    )
    assert facts.select("occurrence_count", "reported_count").rows() == at_source
    assert row["input_bytes"] == len("a shop")
    types = """select error_type, failure_category, severity, test_generated, framework, count(*), sum(occurrence_count)
        from generation_failures where created_at > timestamptz '2026-03-12Z' - interval '7 days'
        group by 1, 2, 3, 4, 5"""
    assert compat(types) == postgres.run(types)


def test_flat_runs(database, published, warehouse, compat):
    database.run(
        "create table agent_runs (run_id varchar(40), agent_name varchar(40), status varchar(20), model varchar(40),"
        " started_at timestamp null, ended_at timestamp null, input_tokens int, cache_read_tokens int,"
        " output_tokens int, cost_usd decimal(12, 6), error_type varchar(40), error_message text, llm_calls int,"
        " files_modified int)",
        "insert into agent_runs values"
        " ('1', 'a', 'success', 'm1', '2026-03-10 10:00:00', '2026-03-10 10:00:05', 100, 40, 10, 0.000123, null, null,"
        " 2, 3),"
        " ('2', 'a', 'failed', 'm1', '2026-03-10 11:00:00', '2026-03-10 10:59:00', 50, 0, 5, null, 'X', 'boom', 1, 0),"
        " ('3', 'a', 'odd', 'm2', '2026-03-10 12:00:00', null, 1, 0, 1, 0.5, null, null, 1, 0)",
    )
    published("flat_runs", database)
    (at_source,) = database.run(
        "select count(*), sum(cost_usd), count(cost_usd), sum(input_tokens), sum(cache_read_tokens)"
        " from agent_runs where status <> 'odd'"
    )
    told = warehouse.read(
        "select sum(execution_count) as n, sum(cost_usd) as c, sum(priced_count) as p, sum(input_tokens) as i,"
        " sum(cache_read_tokens) as r from agentmill.model_metrics_daily"
    ).row(0)
    assert tuple(map(float, told)) == tuple(map(float, at_source))
    assert warehouse.read("select quarantined_by_reason from agentmill.receipts_daily").item() == {"unknown_status": 1}
    flat = (
        "select run_id, status, model, input_tokens, cost_usd, error_type, files_modified from agent_runs {} order by 1"
    )
    assert compat(flat.format("")) == [tuple(row) for row in database.run(flat.format("where status <> 'odd'"))]


def test_a_preset_is_overridden_in_part():
    text = (
        "sources: {app: {preset: flat_runs, url: 'postgresql://db/x', table: runs, mapping: {user: who, model: llm}}}"
    )
    source = parse_settings(text, Path("x")).sources["app"]
    assert source.table == "runs"
    assert (source.mapping["model"].source, source.mapping["user"].source) == ("llm", "who")
    assert source.mapping["cost_usd"].source == "cost_usd"
    text = text.replace("table: runs", "query: select 1")
    assert parse_settings(text, Path("x")).sources["app"].table is None


def test_a_preset_that_does_not_exist_is_told_with_its_line():
    with pytest.raises(
        ConfigError, match=r"line 3: sources\.app\.preset: `flat` is no preset\. There are: execution_log"
    ):
        parse_settings("sources:\n  app:\n    preset: flat\n", Path("x"))


def test_every_preset_is_tested():
    text = Path(__file__).read_text()
    assert [name for name in preset_names() if f"def test_{name}(" not in text] == []
