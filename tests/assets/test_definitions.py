import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest
from conftest import REPOSITORY

from assets.definitions import build_definitions
from assets.resources import Mill
from pipelines.warehouse.dictionary import load_dictionary

EXPECTED = {
    "raw_app",
    "clean_executions",
    "quarantine",
    "executions",
    "execution_logs",
    "user_agent_preferences",
    "execution_rollup_hourly",
    "execution_rollup_daily",
    "execution_rollup_quarter_hourly",
    "agent_metrics_hourly",
    "agent_metrics_daily",
    "model_metrics_daily",
    "user_activity_daily",
    "failure_signatures_daily",
    "failure_occurrences",
    "failure_clusters",
    "failure_cluster_signatures",
    "failure_states",
    "failure_transitions",
    "failure_differences",
    "regression_candidates",
    "regression_results",
    "regression_cases",
    "failure_report",
    "regression_report",
    "retention",
    "access_audit",
}
GROUPS = ["extract", "executions", "warehouse", "rollups", "failures", "regression", "reports", "health", "retention"]
SLOW = ("great_expectations", "pandas", "dagster_postgres")


@pytest.fixture
def definitions(settings):
    return build_definitions(settings(), Mill())


def test_every_asset_has_what_the_catalogue_shows(definitions):
    graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == EXPECTED
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert "Grain:" in node.description or "page" in node.description or "attempt" in node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.group_name in GROUPS, key


def test_the_catalogue_shows_the_columns_of_every_table(definitions):
    graph = definitions.resolve_asset_graph()
    shown = {
        key.to_user_string(): graph.get(key).metadata.get("dagster/column_schema") for key in graph.get_all_asset_keys()
    }
    tables = {relation.name for relation in load_dictionary().relations.values() if not relation.is_view}
    without = {name for name, schema in shown.items() if schema is None}
    assert without == shown.keys() - tables
    (message,) = [column for column in shown["executions"].columns if column.name == "error_message"]
    assert (message.type, message.tags) == ("text", {"privacy": "text"})
    assert message.description == "Message of the error, sanitized."


def test_every_check_says_what_it_asks(definitions):
    checks = [spec for asset in definitions.assets for spec in getattr(asset, "check_specs", ())]
    assert {check.name for check in checks} >= {"expectations", "conservation", "gate", "published", "sketch_accuracy"}
    assert all("?" in check.description or check.name == "gate" for check in checks)
    assert [check.name for check in checks if check.blocking] == ["gate"]


def test_every_job_ends_some_time(definitions):
    for job in definitions.jobs:
        resolved = definitions.resolve_job_def(job.name)
        assert int(resolved.tags["dagster/max_runtime"]) > 0, job.name
        assert resolved.description, job.name


def test_the_schedules_ask_for_the_right_days(definitions):
    def requested(name, at):
        schedule = definitions.resolve_schedule_def(name)
        return schedule(dg.build_schedule_context(scheduled_execution_time=at))

    yesterday = requested("yesterday", datetime(2026, 3, 11, 0, 30, tzinfo=UTC))
    assert (yesterday.partition_key, yesterday.run_key) == ("2026-03-10", "yesterday-2026-03-10")
    today = [requested("today", datetime(2026, 3, 11, hour, 10, tzinfo=UTC)) for hour in (1, 2)]
    assert {request.partition_key for request in today} == {"2026-03-11"}
    assert len({request.run_key for request in today}) == 2


def run_python(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_loading_is_light(tmp_path):
    told = run_python(f"import sys, assets.definitions; print([m for m in {SLOW} if m in sys.modules])", tmp_path)
    assert told.stdout.strip() == "[]", told.stderr
    assert not list(tmp_path.iterdir())


def test_the_workspace_loads_as_dagster_loads_it(tmp_path):
    command = ["-m", "dagster", "definitions", "validate", "-w", str(REPOSITORY / "workspace.yaml")]
    told = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "All code locations passed validation" in told.stdout + told.stderr
