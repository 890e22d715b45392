"""`agentmill export`, `agentmill roles apply` and `agentmill sql --role`, and the asset that loads the audit."""

import json
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
from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.audit import _CSV
from pipelines.warehouse.connection import Warehouse

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
        ("erased_users",): "there are: agent_metrics_daily",
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
