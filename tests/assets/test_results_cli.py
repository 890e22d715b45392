"""`agentmill cases`, `agentmill results` and `agentmill gate`, and the assets that cases and results are."""

import json
import shutil
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest
import typer
from conftest import KEY_TEXT, as_frame, enter_day
from typer.testing import CliRunner

from assets.cases_cli import cases_app
from assets.display import err, out
from assets.regression_results import new_results, regression_cases, regression_results
from assets.resources import Mill
from assets.results_cli import gate, results_app
from pipelines.anonymize.text import DEFAULT
from pipelines.execution import EXECUTION
from pipelines.failures.fingerprint import identify
from pipelines.publication import publish_derived
from pipelines.regression import refresh
from pipelines.regression.reviews import Review, review_candidate
from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse

FAILURE = "the disk is full"
CLUSTER = identify(pl.Series([FAILURE]))["signature_id"][0]
CASE_ID = f"rc_{CLUSTER}"

app = typer.Typer()
app.add_typer(cases_app, name="cases")
app.add_typer(results_app, name="results")
app.command()(gate)


@pytest.fixture
def agentmill(monkeypatch, tmp_path):
    monkeypatch.setattr(out, "width", 200)
    monkeypatch.setattr(err, "width", 200)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [*words])


@pytest.fixture
def configured(tmp_path, monkeypatch, empty_database, prices):
    """A warehouse with one failure on three days of version 1.0, an approved candidate."""
    path = tmp_path / "agentmill.yaml"
    content = {"state_dir": str(tmp_path / "state"), "database_url": empty_database, "pseudonym_key": KEY_TEXT}
    path.write_text(json.dumps(content))
    monkeypatch.setenv("AGENTMILL_CONFIG", str(path))
    settings = load_settings()
    warehouse = open_warehouse(settings)
    for day in range(3):
        at = datetime(2026, 3, 1 + day, 12, tzinfo=UTC)
        row = {
            "source": "app",
            "execution_id": f"r{day}",
            "row_hash": "0",
            "agent_id": "a",
            "agent_name": "a",
            "agent_version": "1.0",
            "status": "failed",
            "error_message": FAILURE,
            "event_time": at,
            "cost_source": "unpriced",
            "quality_flags": [],
        }
        publish_derived(enter_day(warehouse, at.date(), as_frame([row], EXECUTION)), warehouse, prices)
    refresh(warehouse, settings)
    review_candidate(warehouse, Review(CASE_ID, "approve", "ann", "it came back"), DEFAULT)
    refresh(warehouse, settings)
    shutil.rmtree(settings.cases)
    return warehouse


def write_results(path, outcome="pass", **overrides):
    """A file of one result of the case."""
    content = {
        "format": "agentmill.regression_results",
        "format_version": 1,
        "run_id": f"run of {path.name}",
        "started_at": "2026-03-10T10:00:00+00:00",
        "version": "2.0",
        "results": [{"case_id": CASE_ID, "part": "contract", "repetition": 1, "outcome": outcome}],
        **overrides,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def test_results_are_imported_once_and_listed(agentmill, configured, tmp_path):
    file = write_results(tmp_path / "r.json")
    done = agentmill("results", "import", file, "--json")
    assert (done.exit_code, json.loads(done.stdout)["files"][0]["new_count"]) == (0, 1)
    again = agentmill("results", "import", file)
    assert again.exit_code == 0
    assert "imported before" in again.stdout
    (listed,) = json.loads(agentmill("results", "list", "--json").stdout)["results"]
    assert (listed["case_id"], listed["outcome"], listed["agent_version"]) == (CASE_ID, "pass", "2.0")
    assert CASE_ID in agentmill("results", "list", "--case", CASE_ID).stdout
    assert "There is no result" in agentmill("results", "list", "--case", "rc_other").stdout


def test_a_file_with_a_problem_ends_with_1_and_one_that_is_not_there_with_2(agentmill, configured, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.xml").write_text("<a>")
    broken = agentmill("results", "import", str(tmp_path / "broken.xml"))
    assert (broken.exit_code, "it is no XML" in broken.stdout) == (1, True)
    missing = agentmill("results", "import", "none.json")
    assert (missing.exit_code, "There is no file none.json" in missing.stderr) == (2, True)
    assert "There is no file of results there" in agentmill("results", "import", str(tmp_path / "empty")).stdout


def test_the_gate_stops_a_version_until_its_tests_have_passed(agentmill, configured, tmp_path):
    untested = agentmill("gate", "--version", "2.0")
    assert untested.exit_code == 1
    assert "There is no result of version 2.0" in untested.stdout
    assert "Run `pytest --agentmill-cases`" in untested.stdout
    failed = agentmill("gate", "--version", "2.0", "--results", write_results(tmp_path / "a.json", "fail"), "--json")
    told = json.loads(failed.stdout)
    assert (failed.exit_code, told["passes"]) == (1, False)
    assert [(one["kind"], one["subject"]) for one in told["reasons"]] == [("case_failed", CASE_ID)]
    assert told["files"][0]["new_count"] == 1
    later = write_results(tmp_path / "b.json", started_at="2026-03-11T10:00:00Z", version=None)
    passed = agentmill("gate", "--version", "2.0", "--results", later)
    assert passed.exit_code == 0, passed.stdout
    assert "Cases that gate: 1. Version 2.0 passes the gate." in passed.stdout
    assert agentmill("gate", "--version", "2.1").exit_code == 1


def test_a_broken_file_of_results_is_told_and_does_not_pass(agentmill, configured, tmp_path):
    agentmill("results", "import", write_results(tmp_path / "good.json"))
    assert agentmill("gate", "--version", "2.0").exit_code == 0
    (tmp_path / "r.json").write_text("{")
    for _ in range(2):
        done = agentmill("gate", "--version", "2.0", "--results", "r.json", "--results", "good.json", "--json")
        assert done.exit_code == 1
        assert "r.json: it is no file of results" in done.stderr
        (reason,) = json.loads(done.stdout)["reasons"]
        assert (reason["kind"], reason["subject"]) == ("results_broken", "r.json")


def test_a_folder_without_results_does_not_pass_and_one_with_some_does(agentmill, configured, tmp_path):
    write_results(tmp_path / "given" / "good.json")
    assert agentmill("gate", "--version", "2.0", "--results", "given").exit_code == 0
    (tmp_path / "given" / "good.json").rename(tmp_path / "good.json")
    done = agentmill("gate", "--version", "2.0", "--results", "given")
    assert done.exit_code == 1
    assert "It brought no result: there is none in it." in done.stdout
    assert "Look at the files that --results names" in done.stdout


def test_a_file_that_was_imported_without_its_version_is_judged_with_it(agentmill, configured, tmp_path):
    (tmp_path / "j.xml").write_text(f"<testsuite><testcase name='guards {CASE_ID}'/></testsuite>")
    imported = agentmill("results", "import", "j.xml")
    assert imported.exit_code == 0, imported.stdout
    assert "it does not say when the tests ran" in imported.stdout
    done = agentmill("gate", "--version", "9.1", "--results", "j.xml")
    assert done.exit_code == 0, done.stdout
    assert configured.read("select run_count from agentmill.regression_cases").item() == 1


def test_a_repeated_result_is_a_note_and_no_problem(agentmill, configured, tmp_path):
    first = write_results(tmp_path / "a.json", run_id="one")
    again = write_results(tmp_path / "b.json", run_id="one", environment="ci")
    assert agentmill("results", "import", first).exit_code == 0
    done = agentmill("results", "import", again, "--json")
    (file,) = json.loads(done.stdout)["files"]
    assert (done.exit_code, file["problem"], file["notes"]) == (
        0,
        None,
        "1 of its results were there before, and those stay",
    )


def test_the_gate_tells_what_it_compared_with(agentmill, configured, tmp_path):
    row = {"version": "1.0", "outcome": "pass"}
    alone = agentmill("gate", "--version", "1.0", "--results", write_results(tmp_path / "a.json", **row))
    assert "Its agents did not run before 2026-03-01" in alone.stdout
    told = agentmill("gate", "--version", "1.0", "--baseline", "0.9")
    assert "Cases that gate: 1, compared with 0.9." in told.stdout
    later = {"day": "2026-03-05", "agent_id": "a", "agent_version": "2.0", "status": "success", "execution_count": 1}
    with configured.connect() as connection:
        connection.execute(
            "insert into agentmill.execution_rollup_daily select (jsonb_populate_record(one, %s::jsonb)).* "
            "from agentmill.execution_rollup_daily as one limit 1",
            [json.dumps(later)],
        )
    compared = agentmill("gate", "--version", "2.0", "--results", write_results(tmp_path / "b.json"))
    assert "Cases that gate: 1, compared with all before its first day, 2026-03-05." in compared.stdout


def test_cases_are_written_and_exported(agentmill, configured, tmp_path):
    assert "no case in" in agentmill("cases", "export", "langfuse").stderr
    written = json.loads(agentmill("cases", "write", "--json").stdout)
    assert [(one["case_id"], one["state"]) for one in written["cases"]] == [(CASE_ID, "active")]
    assert CASE_ID in agentmill("cases", "write").stdout
    assert agentmill("cases", "export", "promptfoo").exit_code == 0
    (line,) = (tmp_path / "cases.promptfoo.jsonl").read_text().splitlines()
    assert json.loads(line)["vars"]["case_id"] == CASE_ID
    (load_settings().cases / "a.json").write_text("{")
    assert "a.json is no regression case" in agentmill("cases", "export", "langfuse", "--out", "x").stderr
    assert "case_id" in json.loads(agentmill("cases", "schema").stdout)["properties"]


def test_the_assets_import_the_folder_and_write_the_cases(configured, tmp_path):
    settings = load_settings()
    mill = Mill()
    skipped = new_results(dg.build_sensor_context(resources={"mill": mill}))
    assert isinstance(skipped, dg.SkipReason)
    write_results(settings.results / "r.json", "fail")
    (settings.results / "broken.xml").write_text("<a>")
    (asked,) = new_results(dg.build_sensor_context(resources={"mill": mill})).run_requests
    with dg.instance_for_test() as instance:
        done = dg.materialize([regression_results, regression_cases], resources={"mill": mill}, instance=instance)
    assert done.success
    told = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in done.get_asset_materialization_events()
    }
    assert (told["regression_results"]["new_files"].value, told["regression_results"]["new_results"].value) == (2, 1)
    assert "it is no XML" in told["regression_results"]["problems"].value
    assert told["regression_cases"]["dagster/row_count"].value == 1
    assert [path.name for path in settings.cases.iterdir()] == [f"{CASE_ID}.json"]
    assert configured.read("select fail_count from agentmill.regression_cases").item() == 1
    (same,) = new_results(dg.build_sensor_context(resources={"mill": mill})).run_requests
    assert same.run_key == asked.run_key
