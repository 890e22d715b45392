import json
import os
import random

import psycopg
import pytest
from conftest import as_frame
from psycopg.types.json import Jsonb
from pydantic import ValidationError
from regression_builders import (
    CASE_ID,
    CLUSTER,
    HOSTILE,
    at,
    build_case,
    candidate_row,
    cluster_row,
    insert,
    member_row,
    result_row,
    review_row,
)

from pipelines.execution import EXECUTION
from pipelines.regression.case_file import BrokenCase, Case, read_cases, write_cases
from pipelines.regression.case_table import publish_cases
from pipelines.regression.cases import build_cases
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.publish import publish_partition
from pipelines.warehouse.roles import ONCALL

OTHER = "fedcba9876543210"


def execution_row(execution_id, **overrides):
    return {
        "source": "app",
        "execution_id": execution_id,
        "row_hash": "0",
        "agent_id": "a1",
        "agent_name": "planner",
        "status": "success",
        "event_time": at(1),
        "duration_ms": 1_000,
        "input_type": "json",
        "input_bytes": 90,
        "input_shape": "{prompt:str(10-99)}",
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def publish_executions(warehouse, *rows):
    """Executions as they are published, by day."""
    frame = as_frame(list(rows), EXECUTION)
    for (day,), of_day in frame.group_by(frame["event_time"].dt.date(), maintain_order=True):
        load = Load(table="executions", day=day, content="one", rows=of_day.height)
        publish_partition(warehouse, load, of_day, lambda _: None)


@pytest.fixture
def approved(warehouse):
    """A warehouse with one approved candidate, and the one case that it is; arguments override rows."""

    def build(cluster=None, candidate=None, review=None, executions=()):
        insert(warehouse, "failure_clusters", cluster_row(**(cluster or {})))
        insert(warehouse, "failure_cluster_signatures", member_row())
        insert(warehouse, "regression_candidates", candidate_row(**(candidate or {})))
        insert(warehouse, "candidate_reviews", review_row(**(review or {})))
        publish_executions(warehouse, execution_row("f1", status="failed"), *executions)
        (case,) = build_cases(warehouse)
        return case

    return build


def approve_again(warehouse, day, **given):
    """Another approval, and the candidate as it then is."""
    insert(warehouse, "candidate_reviews", review_row(reviewed_at=at(day), **given))
    with warehouse.connect() as connection:
        connection.execute("update agentmill.regression_candidates set state_since = %s", [at(day)])


def test_an_approved_candidate_is_a_case_and_no_other_is(warehouse, approved):
    insert(warehouse, "failure_clusters", cluster_row(cluster_id=OTHER, signature_ids=[OTHER]))
    insert(
        warehouse,
        "regression_candidates",
        candidate_row(candidate_id=f"rc_{OTHER}", cluster_id=OTHER, state="proposed"),
    )
    case = approved(cluster={"title": "full disk", "severity": "high"})
    assert (case.case_id, case.candidate_id, case.cluster_id) == (CASE_ID, CASE_ID, CLUSTER)
    assert (case.title, case.severity, case.template, case.what_failed) == (
        "full disk",
        "high",
        "the disk is full",
        "the disk is full",
    )
    assert (case.reviewed_by, case.reviewed_at, case.reason) == ("ann", at(3), "it came back")
    assert (case.agent.id, case.agent.name) == ("a1", "planner")
    assert case.evidence_execution_ids == ("f1",)
    assert case.contract.must_not.statuses == ("failed", "timeout", "error")
    assert case.contract.retry is None


def test_without_a_fixture_the_input_is_the_structures_that_failed(approved):
    ids = ["f1", "f2", "f3"]
    case = approved(
        candidate={"evidence_execution_ids": ids},
        executions=[
            execution_row("f2", status="timeout", event_time=at(0.5), input_shape="[]", input_bytes=2),
            execution_row("f3", status="error", event_time=at(2)),
        ],
    )
    assert [(one.input_shape, one.input_bytes) for one in case.input.structures] == [
        ("[]", 2),
        ("{prompt:str(10-99)}", 90),
    ]


def test_the_fixture_of_the_last_approval_wins(warehouse, approved):
    approved(review={"fixture": {"prompt": "one"}})
    approve_again(warehouse, 4, reviewed_by="bob", fixture={"prompt": HOSTILE})
    (case,) = build_cases(warehouse)
    assert (case.input.fixture, case.input.structures, case.reviewed_by) == ({"prompt": HOSTILE}, (), "bob")


def test_an_approval_without_a_fixture_keeps_the_one_there_is(warehouse, approved):
    approved(review={"fixture": {"prompt": "one"}})
    approve_again(warehouse, 4, reviewed_by="bob", reason="it may stop no release")
    (case,) = build_cases(warehouse)
    assert (case.input.fixture, case.reviewed_by, case.reason) == ({"prompt": "one"}, "bob", "it may stop no release")


@pytest.mark.parametrize("fixture", [{}, [], 0, False, ""])
def test_a_fixture_may_be_empty(approved, fixture):
    case = approved(review={"fixture": Jsonb(fixture)})
    assert case.input.fixture == fixture
    assert case.input.structures == ()


def test_the_approval_that_holds_is_told_and_no_later_one_that_was_taken_back(warehouse, approved):
    approved()
    insert(warehouse, "failure_cluster_signatures", member_row(signature_id=OTHER))
    insert(
        warehouse,
        "candidate_reviews",
        review_row(candidate_id=f"rc_{OTHER}", reviewed_at=at(4), reviewed_by="bob", fixture={"of": "another"}),
    )
    (case,) = build_cases(warehouse)
    assert (case.reviewed_by, case.input.fixture) == ("ann", None)


def test_a_cluster_that_took_another_in_is_tested_under_all_signatures(warehouse, approved):
    approved(review={"candidate_id": f"rc_{OTHER}"})
    insert(warehouse, "failure_cluster_signatures", member_row(signature_id=OTHER))
    (case,) = build_cases(warehouse)
    assert case.contract.must_not.signature_ids == (CLUSTER, OTHER)
    assert case.reason == "it came back"


def test_what_was_merged_into_a_case_is_tested_with_it_and_what_only_was_is_not(warehouse, approved):
    approved()
    for number, state in enumerate(("merged", "proposed")):
        cluster_id = f"{OTHER}{number}"
        insert(warehouse, "failure_clusters", cluster_row(cluster_id=cluster_id, signature_ids=[cluster_id]))
        insert(warehouse, "failure_cluster_signatures", member_row(signature_id=cluster_id, cluster_id=cluster_id))
        row = candidate_row(candidate_id=f"rc_{cluster_id}", cluster_id=cluster_id, state=state, merged_into=CASE_ID)
        insert(warehouse, "regression_candidates", row)
    (case,) = build_cases(warehouse)
    assert case.contract.must_not.signature_ids == (CLUSTER, f"{OTHER}0")


def test_controls_are_successes_nearest_to_what_failed_and_of_these_the_newest(approved):
    case = approved(
        executions=[
            execution_row("same-old", event_time=at(1)),
            execution_row("same-new", event_time=at(1.5), input_bytes=2),
            execution_row("after-the-approval", event_time=at(3.1), input_bytes=3),
            execution_row("near", input_shape="{prompt:str(10-99),tools:[]}"),
            execution_row("far-old", input_shape="text(2-9)", event_time=at(1.2)),
            execution_row("far-new", input_shape="html(2-9)", event_time=at(1.6)),
            execution_row("of-another-agent", agent_id="a2", event_time=at(2)),
            execution_row("without-a-shape", input_shape=None, event_time=at(2)),
            execution_row("failed", status="failed", input_shape="{a:int}", event_time=at(2)),
        ],
    )
    told = [(one.input.structures[0].input_shape, one.input.structures[0].input_bytes) for one in case.controls]
    assert told == [("{prompt:str(10-99)}", 2), ("{prompt:str(10-99),tools:[]}", 90), ("html(2-9)", 90)]


def test_a_failure_of_the_provider_asks_for_retries_that_end(approved):
    slow = execution_row("slow", duration_ms=40_000)
    case = approved(cluster={"is_retryable": True}, candidate={"kind": "resilience"}, executions=[slow])
    retry = case.contract.retry
    assert (retry.max_attempts, retry.backoff, retry.timeout_ms) == (3, "exponential", 120_000)
    assert retry.ends_in == ("success", "partial")
    assert case.as_part("control:1").contract.retry is None


def test_a_failure_that_no_retry_helps_is_not_retried(approved):
    retry = approved(candidate={"kind": "resilience"}).contract.retry
    assert (retry.max_attempts, retry.backoff, retry.timeout_ms) == (1, "none", 60_000)


def test_a_case_whose_executions_are_gone_is_still_one(approved):
    case = approved(candidate={"evidence_execution_ids": ["gone"]})
    assert (case.agent.id, case.input.structures, case.controls) == (None, (), ())


def test_what_a_case_is_run_on_outlives_its_executions_and_newer_ones(warehouse, approved, tmp_path):
    approved(executions=[execution_row("s1", duration_ms=50_000)], candidate={"kind": "resilience"})
    publish_cases(warehouse, tmp_path)
    before = (tmp_path / f"{CASE_ID}.json").read_bytes()
    publish_executions(warehouse, execution_row("s2", event_time=at(0.5), input_shape="{prompt:str(10-99),a:int}"))
    with warehouse.connect() as connection:
        connection.execute("delete from agentmill.executions where execution_id <> 's2'")
    (row,) = publish_cases(warehouse, tmp_path).to_dicts()
    assert (tmp_path / f"{CASE_ID}.json").read_bytes() == before
    assert (row["agent_id"], row["state"], row["state_reason"]) == ("a1", "active", "approved by ann: it came back")
    (case,) = read_cases(tmp_path)
    assert (len(case.input.structures), len(case.controls)) == (1, 1)
    kept = warehouse.read("select concat(regression_case_inputs) from agentmill.regression_case_inputs").item()
    assert "f1" not in kept
    assert "s1" not in kept


def test_what_was_chosen_under_an_older_id_of_a_case_still_counts(warehouse, approved, tmp_path):
    approved()
    publish_cases(warehouse, tmp_path)
    earlier = "0000000000000000"
    insert(warehouse, "failure_clusters", cluster_row(cluster_id=earlier, signature_ids=[earlier, CLUSTER]))
    insert(warehouse, "failure_cluster_signatures", member_row(signature_id=earlier, cluster_id=earlier))
    with warehouse.connect() as connection:
        connection.execute("update agentmill.failure_cluster_signatures set cluster_id = %s", [earlier])
        connection.execute(
            "update agentmill.regression_candidates set candidate_id = 'rc_' || %s, cluster_id = %s, "
            "evidence_execution_ids = '{gone}'",
            [earlier] * 2,
        )
    (row,) = publish_cases(warehouse, tmp_path).to_dicts()
    assert (row["case_id"], row["agent_id"]) == (f"rc_{earlier}", "a1")
    assert warehouse.read("select case_id from agentmill.regression_case_inputs").to_series().to_list() == [CASE_ID]


def test_a_case_that_can_be_run_on_nothing_says_so_until_it_has_a_fixture(warehouse, approved, tmp_path):
    approved(candidate={"evidence_execution_ids": ["gone"]})
    (row,) = publish_cases(warehouse, tmp_path).to_dicts()
    assert row["state_reason"].endswith("; there is no input to run it on: approve it once more with a fixture")
    assert warehouse.read("select count(*) from agentmill.regression_case_inputs").item() == 0
    approve_again(warehouse, 4, fixture={"prompt": "one"})
    (row,) = publish_cases(warehouse, tmp_path).to_dicts()
    assert "no input" not in row["state_reason"]


def test_who_may_not_write_cases_writes_no_file(warehouse, approved, tmp_path):
    approved()
    publish_cases(warehouse, tmp_path / "mine")
    name = f"agentmill_reader_{os.getpid()}"
    with warehouse.connect() as connection:
        connection.execute(f"create role {name} login")
        connection.execute(f"grant {ONCALL} to {name}")
    try:
        reader = Warehouse(warehouse.libpq_url.replace("postgres:", f"{name}:"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            publish_cases(reader, tmp_path / "theirs")
    finally:
        with warehouse.connect() as connection:
            connection.execute(f"drop owned by {name} cascade")
            connection.execute(f"drop role {name}")
    assert not (tmp_path / "theirs").exists()


def test_the_same_tables_make_the_same_bytes(warehouse, approved, tmp_path):
    approved(
        executions=[execution_row(f"s{n}", input_shape=f"text({n})") for n in random.Random(1).sample(range(20), 9)]
    )
    for name in ("one", "two"):
        write_cases(build_cases(warehouse), tmp_path / name)
    one, two = ((tmp_path / name / f"{CASE_ID}.json").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_case_is_read_as_it_was_written(tmp_path):
    case = build_case(title=HOSTILE, what_failed=HOSTILE, input={"fixture": {HOSTILE: [HOSTILE, 1, None]}})
    write_cases([case], tmp_path)
    assert read_cases(tmp_path) == [case]
    assert set(json.loads((tmp_path / f"{CASE_ID}.json").read_text())) == set(Case.model_json_schema()["properties"])


@pytest.mark.parametrize("case_id", ["../../etc/passwd", "a/b", "", "A", "a\n", "x" * 81, "rc_é", "."])
def test_an_id_that_would_be_another_file_is_refused(tmp_path, case_id):
    with pytest.raises(ValidationError):
        build_case(case_id=case_id)
    forged = build_case().model_copy(update={"case_id": case_id})
    with pytest.raises(ValueError, match="is no id of a case"):
        write_cases([build_case(case_id="rc_2"), forged], tmp_path / "cases")
    assert not list(tmp_path.rglob("*.json"))


def test_files_of_cases_that_are_gone_go_and_no_other_file_does(tmp_path):
    write_cases([build_case(), build_case(case_id="rc_2")], tmp_path)
    for name, content in (("notes.json", "{}"), ("broken.json", "{"), ("list.json", "[]"), ("notes.txt", "agentmill")):
        (tmp_path / name).write_text(content)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    stays = {"notes.json", "broken.json", "list.json", "notes.txt", "deep.json"}
    write_cases([build_case(case_id="rc_2")], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == stays | {"rc_2.json"}
    write_cases([], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == stays


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_text("mine")
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / f"{CASE_ID}.json").symlink_to(outside)
    write_cases([build_case()], tmp_path / "cases")
    assert outside.read_text() == "mine"
    assert isinstance(read_cases(tmp_path / "cases")[0], Case)


def test_a_file_that_is_no_case_says_why_and_shows_no_value(tmp_path):
    (tmp_path / "a.json").write_text(build_case().to_json().replace('"severity": "medium"', '"severity": ["secret"]'))
    (broken,) = read_cases(tmp_path)
    assert isinstance(broken, BrokenCase)
    assert "severity" in str(broken)
    assert "secret" not in str(broken)


def test_the_table_and_the_files_follow_candidates_and_results(warehouse, approved, tmp_path):
    approved()
    insert(warehouse, "regression_results", result_row(), result_row(run_id="run-2", outcome="fail", executed_at=at(6)))
    (row,) = publish_cases(warehouse, tmp_path).to_dicts()
    assert warehouse.read("select * from agentmill.regression_cases").to_dicts() == [row]
    assert (row["case_id"], row["agent_id"], row["pass_count"], row["fail_count"]) == (CASE_ID, "a1", 1, 1)
    assert (row["approved_by"], row["approved_at"], row["last_outcome"]) == ("ann", at(3), "fail")
    assert [path.name for path in tmp_path.iterdir()] == [f"{CASE_ID}.json"]
    insert(warehouse, "candidate_reviews", review_row(action="retire", reason="no longer needed", reviewed_at=at(9)))
    with warehouse.connect() as connection:
        connection.execute("update agentmill.regression_candidates set state = 'retired', state_reason = 'x'")
    (row,) = publish_cases(warehouse, tmp_path).to_dicts()
    assert (row["state"], row["state_reason"]) == ("retired", "no longer needed (ann)")
    assert list(tmp_path.iterdir()) == []
