"""`agentmill candidates`, `failures why`, `failures shadow` and the jobs of decisions, over real published facts."""

import json
import os
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from conftest import KEY_TEXT, as_frame, enter_day
from typer.testing import CliRunner

from assets.cli import app
from assets.display import err, out
from assets.resources import Mill
from assets.reviews import decision_about_failure, review_of_candidate
from pipelines.execution import EXECUTION
from pipelines.publication import publish_derived
from pipelines.regression import refresh
from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.ledger import BusyError
from pipelines.warehouse.roles import ONCALL

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
TABLE = "could not open the table {} of the shop"


@pytest.fixture
def agentmill(monkeypatch):
    """Run a command."""
    for console in (out, err):
        monkeypatch.setattr(console, "width", 250)
    return lambda *words: CliRunner().invoke(app, [*words])


@pytest.fixture
def struck(tmp_path, monkeypatch, empty_database, prices):
    """Two failures on three days each; returns the configuration file."""
    path = tmp_path / "agentmill.yaml"
    path.write_text(
        json.dumps({"state_dir": f"{tmp_path}/state", "database_url": empty_database, "pseudonym_key": KEY_TEXT})
    )
    monkeypatch.setenv("AGENTMILL_CONFIG", str(path))
    settings = load_settings()
    warehouse = open_warehouse(settings)
    for day, name in enumerate(("orders", "users", "items")):
        at = NOON + timedelta(days=day)
        rows = [
            {
                "source": "app",
                "execution_id": f"r{day}-{number}",
                "row_hash": "0",
                "agent_id": "a",
                "agent_name": "a",
                "status": "failed",
                "error_message": message,
                "event_time": at + timedelta(minutes=number),
                "cost_source": "unpriced",
                "quality_flags": [],
            }
            for number, message in enumerate(("the disk of <email> is full", TABLE.format(name)))
        ]
        published = enter_day(warehouse, at.date(), as_frame(rows, EXECUTION))
        publish_derived(published, warehouse, prices)
    refresh(warehouse, settings)
    return path


def listed(agentmill):
    told = json.loads(agentmill("candidates", "list", "--json").stdout)["candidates"]
    return {one["title"]: (one["candidate_id"], one["state"]) for one in told}


def test_candidates_are_listed_shown_and_decided_about(agentmill, struck, tmp_path):
    candidates = listed(agentmill)
    assert {title: state for title, (_, state) in candidates.items()} == {
        "the disk of <email> is full": "proposed",
        "could not open the table <?> of the shop": "proposed",
    }
    disk, table = (
        candidates["the disk of <email> is full"][0],
        candidates["could not open the table <?> of the shop"][0],
    )
    shown = agentmill("candidates", "show", disk[:9]).stdout
    assert "proposed, three times within seven days, up to 2026-03-12 12:00 UTC" in shown
    assert "5 executions" not in shown
    assert "3 executions to write a test from" in shown
    fixture = tmp_path / "input.json"
    fixture.write_text('{"question": "write to me@example.org"}')
    approved = agentmill("candidates", "approve", disk, "-r", "it comes back", "--by", "kim", "--fixture", str(fixture))
    assert approved.exit_code == 0, approved.output
    assert "is approved, by kim: it comes back" in approved.stdout
    (case,) = (tmp_path / "state" / "cases").glob("*.json")
    assert json.loads(case.read_text())["input"]["fixture"] == {"question": "write to <email>"}
    merged = agentmill("candidates", "merge", table, "--into", disk, "-r", "one cause", "--by", "kim")
    assert "is merged, by kim: one cause" in merged.stdout
    assert "is proposed" in agentmill("candidates", "reopen", table, "-r", "no").stdout
    assert "is rejected" in agentmill("candidates", "reject", table, "-r", "harmless").stdout
    assert "is retired" in agentmill("candidates", "retire", disk, "-r", "the tool is gone").stdout
    assert not list((tmp_path / "state" / "cases").glob("*.json"))
    assert [
        one["action"] for one in json.loads(agentmill("candidates", "show", table, "--json").stdout)["reviews"]
    ] == [
        "merge",
        "reopen",
        "reject",
    ]
    assert "None is held." in agentmill("candidates", "list", "--state", "held").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("show", "nothing"), "There is no candidate `nothing`"),
        (("show", ""), "There is no candidate ``"),
        (("list", "--state", "done"), "There is no state `done`; there are: proposed"),
        (("approve", "{id}", "-r", " "), "must not be blank"),
        (("approve", "{id}", "-r", "x", "--fixture", "/nowhere.json"), "cannot be used as a fixture"),
        (("merge", "{id}", "--into", "{id}", "-r", "x"), "cannot be merged into itself"),
    ],
)
def test_what_a_person_can_mend_is_told_in_a_sentence(agentmill, struck, words, why):
    candidate_id = next(iter(listed(agentmill).values()))[0]
    refused = agentmill("candidates", *(word.replace("{id}", candidate_id) for word in words))
    assert refused.exit_code == 2
    assert why in refused.stderr
    assert "Traceback" not in refused.output


REVIEWED = "select reviewed_by, action from agentmill.candidate_reviews"


def test_on_call_reviews_although_it_may_not_write_the_tables(agentmill, struck, tmp_path):
    candidate_id = listed(agentmill)["the disk of <email> is full"][0]
    warehouse = open_warehouse(load_settings())
    name = f"agentmill_reviewer_{os.getpid()}"
    with warehouse.connect() as connection:
        connection.execute(f"create role {name} login")
        connection.execute(f"grant {ONCALL} to {name}")
    url = warehouse.libpq_url.replace("postgres:", f"{name}:")
    try:
        struck.write_text(json.dumps(json.loads(struck.read_text()) | {"database_url": url}))
        done = agentmill("candidates", "approve", candidate_id, "-r", "it comes back", "--by", "kim")
        assert done.exit_code == 0, done.output
        assert "It is entered; the tables follow with the next run (permission denied" in done.stderr
        written = agentmill("cases", "write")
        assert written.exit_code == 1
        assert "Cases are written by members of agentmill_loader (permission denied" in written.stderr
    finally:
        with warehouse.connect() as connection:
            connection.execute(f"drop owned by {name} cascade")
            connection.execute(f"drop role {name}")
    assert warehouse.read(REVIEWED).rows() == [("kim", "approve")]
    assert not [*(tmp_path / "state" / "cases").glob("*.json")]


def test_a_review_is_entered_while_another_process_derives(agentmill, struck, monkeypatch):
    candidate_id = listed(agentmill)["the disk of <email> is full"][0]

    def busy(*_):
        raise BusyError("failure_clusters is being loaded")

    monkeypatch.setattr("assets.entering.refresh", busy)
    done = agentmill("candidates", "reject", candidate_id, "-r", "harmless", "--by", "kim")
    assert done.exit_code == 0, done.output
    assert "It is entered; the tables follow with the next run (failure_clusters is being loaded)." in done.stderr
    assert open_warehouse(load_settings()).read(REVIEWED).rows() == [("kim", "reject")]
    monkeypatch.setattr("pipelines.failures.fingerprint.RULES_VERSION", 99)
    adopted = agentmill("failures", "adopt", "-r", "looked at")
    assert adopted.exit_code == 0, adopted.output
    assert "It is entered" in adopted.stderr
    assert "4 signatures lead to their successors" in adopted.stdout


def test_why_a_failure_is_what_it_is_and_why_two_are_not_one(agentmill, struck):
    ids = {title: candidate_id.removeprefix("rc_") for title, (candidate_id, _) in listed(agentmill).items()}
    table, disk = ids["could not open the table <?> of the shop"], ids["the disk of <email> is full"]
    told = json.loads(agentmill("failures", "why", table, "--json").stdout)
    assert told["cluster_id"] == table
    assert told["merges"] == [
        {"pattern": "could not open the table <?> of the shop", "position": 5, "values": ["items", "orders", "users"]}
    ]
    shown = agentmill("failures", "why", disk[:8]).stdout
    assert "<email>" in shown
    assert "Made one by what varies" not in shown
    assert "Two failures." in agentmill("failures", "why-not", table, disk).stdout
    assert "One failure." in agentmill("failures", "why-not", table, table).stdout
    refused = agentmill("failures", "why", "r9-9")
    assert refused.exit_code == 2
    assert "No failed execution, signature or cluster is named `r9-9`" in refused.stderr


def test_rules_that_did_not_change_have_nothing_to_adopt(agentmill, struck, tmp_path):
    told = json.loads(agentmill("failures", "shadow", "--json", "--out", str(tmp_path / "changes.csv")).stdout)
    assert (told["occurrence_count"], told["moved_count"], told["changes"], told["aliases"]) == (6, 0, [], [])
    assert (tmp_path / "changes.csv").read_text().startswith("kind,cluster_id,new_cluster_id")
    assert "6 of 6 occurrences (100.00%) stay" in agentmill("failures", "shadow").stdout
    done = agentmill("failures", "adopt", "-r", "x")
    assert (done.exit_code, "nothing to adopt" in done.output) == (0, True)


def test_new_rules_are_tried_and_then_taken_over(agentmill, struck, monkeypatch):
    monkeypatch.setattr("pipelines.failures.fingerprint.RULES_VERSION", 99)
    assert "4 signatures get another id" in agentmill("failures", "shadow").stdout
    before = listed(agentmill)
    assert "4 signatures lead to their successors" in agentmill("failures", "adopt", "-r", "looked at").stdout
    assert listed(agentmill) == before
    assert "nothing" not in agentmill("failures", "shadow").stdout


def test_a_broken_file_of_overrides_is_told_with_its_place(agentmill, struck, tmp_path):
    overrides = tmp_path / "failures.yaml"
    overrides.write_text("rename:\n  - signature: nonsense\n    name: x\n    reason: y\n")
    config = json.loads(struck.read_text()) | {"failures": {"overrides": str(overrides)}}
    struck.write_text(json.dumps(config))
    refused = agentmill("failures", "why", next(iter(listed(agentmill).values()))[0].removeprefix("rc_"))
    assert "rename.1.signature" in str(refused.exception)


def test_names_and_categories_of_people_hold(agentmill, struck, tmp_path):
    disk = listed(agentmill)["the disk of <email> is full"][0].removeprefix("rc_")
    overrides = tmp_path / "failures.yaml"
    overrides.write_text(
        json.dumps(
            {
                "rename": [{"signature": disk, "name": "Full disk", "reason": "short"}],
                "category": [{"signature": disk, "category": "rate_limit", "reason": "it is the quota"}],
            }
        )
    )
    struck.write_text(json.dumps(json.loads(struck.read_text()) | {"failures": {"overrides": str(overrides)}}))
    settings = load_settings()
    refresh(open_warehouse(settings), settings)
    told = json.loads(agentmill("candidates", "show", disk, "--json").stdout)
    assert (told["title"], told["category"], told["fault_domain"], told["kind"]) == (
        "Full disk",
        "rate_limit",
        "provider",
        "resilience",
    )
    assert (told["category_rule"], told["category_evidence"]) == ("override", None)


def test_the_same_can_be_done_from_the_ui(agentmill, struck):
    candidate_id = listed(agentmill)["the disk of <email> is full"][0]
    mill = {"mill": Mill(config=str(struck))}
    review = {"candidate_id": candidate_id, "action": "approve", "reason": "comes back", "reviewed_by": "kim"}
    done = review_of_candidate.execute_in_process(
        run_config={"ops": {"enter_review": {"config": review}}}, resources=mill
    )
    tables = {event.asset_key.to_user_string() for event in done.get_asset_materialization_events()}
    assert {"regression_candidates", "regression_cases", "failure_states"} <= tables
    assert listed(agentmill)["the disk of <email> is full"] == (candidate_id, "approved")
    decision = {
        "cluster_id": candidate_id.removeprefix("rc_"),
        "action": "resolve",
        "reason": "bigger disk",
        "decided_by": "kim",
    }
    decision_about_failure.execute_in_process(
        run_config={"ops": {"enter_decision": {"config": decision}}}, resources=mill
    )
    (state,) = json.loads(agentmill("failures", "list", "--state", "resolved", "--json").stdout)["failures"]
    assert state["cluster_id"] == decision["cluster_id"]
    with pytest.raises(dg.Failure, match="must not be blank"):
        review_of_candidate.execute_in_process(
            run_config={"ops": {"enter_review": {"config": review | {"reason": " "}}}}, resources=mill
        )


def test_the_status_says_which_failures_need_somebody(agentmill, struck):
    told = agentmill("status")
    assert "Failures that need somebody: 2 new. `agentmill failures list` names them." in told.stdout
    assert json.loads(agentmill("status", "--json").stdout)["failures"] == {"new": 2}
