"""One application's database from end to end: executions, log lines and preferences, and rows that move."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import KEY_TEXT, checksums, postgres_database

from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.server import database_url

AGENTMILL = Path(sys.executable).with_name("agentmill")
TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=n) for n in (3, 2, 1)]


def fill(postgres):
    """Three days before today: the sources are looked at for late rows only so far back."""
    postgres.run(
        """create table "AgentExecution" (id text primary key, "agentId" text not null, "userId" text,
        "executionId" text unique not null, status text not null, duration integer, "creditsConsumed" double precision,
        "httpStatus" integer, "errorCode" text, "errorMessage" text, "inputSize" integer, "outputSize" integer,
        "inputType" text, "outputType" text, "responseTime" integer, "processingTime" integer, "queueTime" integer,
        "sessionId" text, "userAgent" text, "ipAddress" text, "startedAt" timestamp(3), "completedAt" timestamp(3))""",
        f"""insert into "AgentExecution" (id, "agentId", "userId", "executionId", status, duration, "errorMessage",
        "startedAt") select n::text, 'agent-' || n % 3, 'user-' || n % 7, 'exec-' || n,
        case n % 4 when 0 then 'failed' else 'success' end, n * 10,
        case n % 4 when 0 then 'connection to 10.0.0.' || n || ' refused' end,
        timestamp '{DAYS[0]}' + n * interval '20 minutes' from generate_series(0, 215) n""",
        """create table "AgentLog" (id text primary key, "executionId" text, "agentId" text, "userId" text,
        category text, level text, message text, context jsonb, timestamp timestamp(3) not null)""",
        """insert into "AgentLog" select 'log-' || id, "executionId", "agentId", "userId", 'EXECUTION', 'info',
        'done for user-' || id || '@example.org', '{"step": 1}', "startedAt" from "AgentExecution" """,
        """create table "UserAgentInteraction" ("userId" text, "agentId" text, "isFavorite" boolean, rating smallint,
        feedback text, "updatedAt" timestamp(3))""",
        f"""insert into "UserAgentInteraction" values ('user-1', 'agent-1', true, 5, 'thanks ann@example.org',
        '{DAYS[1]} 10:00'), ('user-2', 'agent-0', false, 1, null, '{DAYS[1]} 11:00')""",
    )


@pytest.fixture(scope="module")
def postgres():
    with postgres_database() as database:
        fill(database)
        yield database


@pytest.fixture(scope="module")
def application(tmp_path_factory, postgres, embedded_server):
    """Runs commands under a configuration of its own, all over one application's database."""
    presets = {
        "runs": "marketplace_executions",
        "log": "marketplace_logs",
        "said": "marketplace_preferences",
    }

    def build(name):
        folder = tmp_path_factory.mktemp(name)
        url = database_url(embedded_server, f"application_{os.getpid()}_{name}")
        sources = {source: {"preset": preset, "url": postgres.url} for source, preset in presets.items()}
        content = {"database_url": url, "pseudonym_key": KEY_TEXT, "sources": sources}
        (folder / "agentmill.yaml").write_text(json.dumps(content))

        def run(*words):
            environment = {**os.environ, "COLUMNS": "200"}
            return subprocess.run(
                [AGENTMILL, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )

        return run, Warehouse(url)

    return build


@pytest.fixture(scope="module")
def first(application):
    """The three days, run once; the tests below go on from there."""
    run, warehouse = application("first")
    told = run("run", "--from", f"{DAYS[0]}", "--to", f"{DAYS[-1]}")
    assert told.returncode == 0, told.stdout + told.stderr
    return run, warehouse


def test_what_a_user_ran_logged_and_said_meets_under_one_pseudonym(first, postgres):
    run, warehouse = first
    tables = checksums(warehouse)
    assert (tables["executions"][0], tables["execution_logs"][0], tables["user_agent_preferences"][0]) == (216, 216, 2)
    joined = "select count(*) from agentmill.execution_logs join agentmill.executions using (execution_id, user_key)"
    assert warehouse.read(joined).item() == 216
    row = warehouse.read(
        "select execution_count, active_days, is_favorite, feedback from agentmill.user_agent_interactions "
        "where rating = 5"
    ).row(0)
    at_source = postgres.run(
        """select count(*), count(distinct "startedAt"::date), true, 'thanks <email>' from "AgentExecution"
        where "userId" = 'user-1' and "agentId" = 'agent-1'"""
    )
    assert [row] == at_source
    told = run("source", "preview", "log").stdout
    assert "216 records read of 1 input: 216 execution_logs." in told
    assert "example.org" not in told


def test_moved_rows_are_found_and_every_table_equals_a_run_from_scratch(first, application, postgres):
    run, warehouse = first
    before = checksums(warehouse)
    postgres.run(
        f"""update "AgentExecution" set "startedAt" = '{DAYS[2]} 05:05', "userId" = 'user-new' where id::int < 5""",
        f"""update "AgentLog" set timestamp = '{DAYS[2]} 05:05' where id in ('log-1', 'log-2')""",
        f"""update "UserAgentInteraction" set rating = 3, "updatedAt" = '{DAYS[2]} 06:00'""",
    )
    told = run("run", "--dirty")
    assert told.returncode == 0, told.stdout + told.stderr
    for day, source, why in (
        (DAYS[0], "runs", "72 records then, 67 now"),
        (DAYS[1], "said", "2 records then, 0 now"),
        (DAYS[2], "log", "72 records then, 74 now"),
    ):
        assert [line.split() for line in told.stdout.splitlines()].count([f"{day}", source, *why.split()]) == 1, told
    after = checksums(warehouse)
    again, scratch = application("second")
    assert again("run", "--from", f"{DAYS[0]}", "--to", f"{DAYS[-1]}").returncode == 0
    assert after == checksums(scratch)
    changed = {name for name in after if after[name] != before[name]}
    assert changed >= {"executions", "execution_logs", "user_agent_preferences", "user_activity_daily"}
    assert changed >= {"agent_metrics_daily", "failure_clusters", "receipts_daily"}


def test_only_what_changed_is_published_again(first, postgres):
    run, warehouse = first
    ledger = "select table_name, day, load_id from agentmill.load_ledger where day > '0001-01-01'"
    before = {row[:2]: row[2] for row in warehouse.read(ledger).rows()}
    postgres.run(f"""update "AgentLog" set message = 'other' where timestamp = '{DAYS[1]} 10:00'""")
    assert run("run", "--dirty").returncode == 0
    after = {row[:2]: row[2] for row in warehouse.read(ledger).rows()}
    assert {key for key in after if after[key] != before[key]} == {("execution_logs", DAYS[1])}
    assert "No day has changed" in run("run", "--dirty").stdout
