"""`agentmill export`, `agentmill roles apply` and `agentmill sql --role`, and the asset that loads the audit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from conftest import KEY_TEXT
from typer.testing import CliRunner

from assets.access import access_audit
from assets.cli import app
from assets.display import err, out
from assets.resources import Mill
from pipelines.settings import Settings, load_settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.audit import _CSV
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import downgrade
from pipelines.warehouse.roles import ANALYST

CALLED = {"timestamp": "2026-03-10 12:00:00.000 {zone}", "user": "ann", "session_id": "s", "line_num": "1"}


@pytest.fixture
def agentmill(monkeypatch, tmp_path):
    monkeypatch.setattr(out, "width", 200)
    monkeypatch.setattr(err, "width", 200)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [*words])


@pytest.fixture
def configured(tmp_path, monkeypatch, empty_database):
    path = tmp_path / "agentmill.yaml"
    content = {"state_dir": str(tmp_path / "state"), "database_url": empty_database, "pseudonym_key": KEY_TEXT}
    path.write_text(json.dumps({**content, "access_log": str(tmp_path / "*.csv")}))
    monkeypatch.setenv("AGENTMILL_CONFIG", str(path))
    return open_warehouse(load_settings())


def test_a_view_is_exported_and_what_is_no_view_is_refused(agentmill, configured, tmp_path):
    done = agentmill("export", "agent_performance", "--from", "2026-03-01", "--to", "2026-04-01")
    assert done.exit_code == 0, done.stderr
    assert "0 rows of agent_performance are in agent_performance.csv" in done.stderr
    assert (tmp_path / "agent_performance.csv").read_text().startswith("day,agent_id,agent_name,")
    done = agentmill("export", "executions", "--format", "json", "--role", "oncall", "--out", "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == []
    assert "oncall does not read are left out: client_ip_prefix." in done.stderr
    for words, told in {
        ("erased_users",): "there are: agent_discovery",
        ("agent_performance", "--from", "soon"): "`soon` is no day",
        ("agents", "--out", "nowhere/x.csv"): "There is no folder nowhere",
        ("failure_clusters", "--from", "2026-03-01"): "no range of days",
    }.items():
        refused = agentmill("export", *words)
        assert refused.exit_code == 2, words
        assert told in refused.stderr


def test_a_dry_run_of_roles_changes_nothing_and_apply_does(agentmill, configured):
    with configured.connect() as connection:
        connection.execute("grant select on agentmill.erased_users to public")
    revoke = 'revoke select on table "agentmill"."erased_users" from public;'
    for _ in range(2):
        planned = agentmill("roles", "apply", "--dry-run")
        assert planned.exit_code == 0
        assert revoke in planned.stdout
    assert revoke in agentmill("roles", "apply").stdout
    done = agentmill("roles", "apply").stdout
    assert "Nothing is to be changed." in done
    shown = {line.split()[0]: line.split()[1:] for line in done.splitlines() if line.strip()}
    assert shown["erased_users"] == ["-", "-", "all"]
    assert shown["agent_performance"] == ["all", "all", "all"]
    assert " ".join(shown["executions"]) == "63 of 69 columns 68 of 69 columns all"


def test_a_dry_run_without_a_warehouse_makes_none(agentmill, empty_database, tmp_path):
    (tmp_path / "agentmill.yaml").write_text(json.dumps({"database_url": empty_database}))
    planned = agentmill("roles", "apply", "--dry-run")
    assert planned.exit_code == 2
    assert "There is no warehouse yet" in planned.stderr
    assert Warehouse(empty_database).read("select from pg_namespace where nspname like 'agentmill%'").is_empty()


def test_another_reader_asks_for_more_and_a_refusal_says_what_to_do(configured, tmp_path):
    def ask(*words):
        command = [Path(sys.executable).with_name("agentmill"), "sql", "select count(error_message) from executions"]
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = ask()
    assert refused.returncode == 1
    assert "permission denied" in refused.stderr
    assert "agentmill roles apply --dry-run" in refused.stderr
    assert ask("--role", "oncall", "--csv").stdout == "count\n0\n"


@pytest.fixture
def as_reader(configured, tmp_path):
    """Run `agentmill` with the login of somebody who is an analyst and nothing else."""
    name = f"agentmill_test_reader_{os.getpid()}"
    with configured.connect() as connection:
        connection.execute(f"create role {name} login in role {ANALYST}")
    path = tmp_path / "reader.yaml"
    url = configured.libpq_url.replace("postgres:", f"{name}:")
    path.write_text(json.dumps({"state_dir": str(tmp_path / "own"), "database_url": url, "minimum_group_size": 3}))
    command = [Path(sys.executable).with_name("agentmill"), "-c", path]
    yield lambda *words: subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    with configured.connect() as connection:
        connection.execute(f"drop owned by {name}")
        connection.execute(f"drop role {name}")


def test_a_readers_own_login_reads_and_changes_nothing(as_reader, configured):
    for words in (
        ("sql", "--csv", "select session_user like 'agentmill_test_reader%'"),
        ("queries", "cost_by_day"),
        ("export", "agent_performance"),
        ("status",),
    ):
        done = as_reader(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert configured.read("select minimum_group_size from agentmill.privacy_policy").item() == 5
    downgrade(configured, "0008")
    refused = as_reader("sql", "select 1")
    assert refused.returncode == 2
    assert "is of an earlier version of Agentmill" in refused.stderr


def test_a_policy_that_the_login_may_not_change_is_warned_of(configured, caplog):
    with configured.connect() as connection:
        connection.execute("create role agentmill_test_plain login")
        connection.execute(f"grant {ANALYST} to agentmill_test_plain")
    url = configured.libpq_url.replace("postgres:", "agentmill_test_plain:")
    try:
        open_warehouse(Settings(database_url=url, minimum_group_size=5))
        assert caplog.messages == []
        open_warehouse(Settings(database_url=url, minimum_group_size=3))
        assert [one.split(":")[0] for one in caplog.messages] == ["minimum_group_size stays 5"]
    finally:
        with configured.connect() as connection:
            connection.execute("drop owned by agentmill_test_plain")
            connection.execute("drop role agentmill_test_plain")


def test_the_time_zone_is_an_option_and_must_be_one(agentmill, configured, tmp_path):
    question = "select reporting_timezone()"
    assert agentmill("sql", question, "--csv").stdout.splitlines()[1:] == ["UTC"]
    done = agentmill("sql", question, "--csv", "--timezone", "Europe/Berlin")
    assert done.stdout.splitlines()[1:] == ["Europe/Berlin"], done.stderr
    assert agentmill("queries", "cost_by_day", "--timezone", "Asia/Kathmandu").exit_code == 0
    with configured.connect() as connection:
        connection.execute(
            "insert into agentmill.execution_rollup_daily (day, agent_id, status, execution_count, duration_count, "
            "priced_count, metered_count, cache_read_count, credited_count) "
            "values ('2026-03-10', 'a', 'success', 1, 0, 0, 0, 0, 0)"
        )
        connection.execute(
            "insert into agentmill.execution_rollup_hourly (day, hour, agent_id, status, execution_count, "
            "duration_count, priced_count, metered_count, cache_read_count, credited_count) "
            "values ('2026-03-10', '2026-03-10 23:00Z', 'a', 'success', 1, 0, 0, 0, 0, 0)"
        )
    for zone, day in (("UTC", "2026-03-10"), ("Europe/Berlin", "2026-03-11")):
        done = agentmill(
            "export", "execution_rollup_local_hourly", "--timezone", zone, "--out", "x.json", "--format", "json"
        )
        assert done.exit_code == 0, done.stderr
        assert [row["day"] for row in json.loads((tmp_path / "x.json").read_text())] == [day]
    refused = agentmill("sql", question, "--timezone", "Mars/Olympus")
    assert refused.exit_code == 2
    assert "Mars/Olympus" in refused.stderr


def test_the_audit_is_loaded_from_the_log_that_is_configured(configured, tmp_path):
    def load():
        return dg.materialize([access_audit], resources={"mill": Mill()}, raise_on_error=False)

    assert not load().success  # there is no log yet
    zone = configured.read("show log_timezone").item()
    with configured.connect() as connection:
        called = {**CALLED, "dbname": connection.info.dbname, "message": "statement: select * from executions"}
    called["timestamp"] = called["timestamp"].format(zone=zone)
    (tmp_path / "log.csv").write_text(",".join(called.get(name, "") for name in _CSV) + "\n")
    done = load()
    assert done.success
    metadata = done.asset_materializations_for_node("access_audit")[0].metadata
    assert metadata["dagster/row_count"].value == 1
    told = configured.read("select login, kind, objects, statement from agentmill.access_audit").rows()
    assert told == [("ann", "select", ["executions"], "select * from executions")]
