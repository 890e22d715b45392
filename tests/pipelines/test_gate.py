import itertools
from datetime import timedelta

import polars as pl
import pytest
from regression_builders import CASE_ID, CLUSTER, START, at, candidate_row, cluster_row, insert, member_row, result_row
from test_scores import evidence

from pipelines.regression.gate import CLUSTERS, DAYS, FACTS, Release, judge, judge_version

OTHER = "fedcba9876543210"
_numbers = itertools.count(1)


def ran(version, day=0, environment="ci"):
    return (START.date() + timedelta(days=day), version, environment)


def failed(version, cluster=CLUSTER, day=0, environment="ci", release=None):
    return (START.date() + timedelta(days=day), cluster, environment, release, version)


def release(days=(), facts=(), severity="high"):
    clusters = [(CLUSTER, severity, "full disk", "the disk is full"), (OTHER, severity, "", "no memory")]
    return Release(
        pl.DataFrame(list(facts), schema=FACTS, orient="row"),
        pl.DataFrame(list(days), schema=DAYS, orient="row"),
        pl.DataFrame(clusters, schema=CLUSTERS, orient="row"),
    )


def judged(*rows, of=None, version="2.0", baseline=None, environment=None, **tables):
    tables = {"signatures": ((CLUSTER, CLUSTER), (OTHER, OTHER)), **tables}
    return judge_version(evidence(*rows, **tables), of or release(), version, baseline, environment)


def kinds(judgement):
    assert judgement.passes == (not judgement.reasons)
    return [reason.kind for reason in judgement.reasons]


def test_a_version_whose_cases_passed_passes():
    judgement = judged({"run_id": "one"}, {"run_id": "one", "part": "control:1"})
    assert (judgement.passes, judgement.case_count, judgement.advice) == (True, 1, "Version 2.0 passes the gate.")


def test_a_version_without_results_fails_even_where_there_is_no_case():
    assert kinds(judged({"agent_version": "1.0"})) == ["no_results", "case_not_run"]
    empty = judged(candidates=())
    assert kinds(empty) == ["no_results"]
    assert "--agentmill-cases" in empty.advice


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([{"outcome": "fail"}], ["case_failed"]),
        ([{}, {"outcome": "fail", "repetition": 2}], ["case_failed"]),
        ([{}, {"outcome": "fail", "part": "control:1"}], ["case_failed"]),
        ([{"outcome": "fail"}, {"outcome": "error", "repetition": 2}], ["case_failed"]),
        ([{}, {"outcome": "error", "repetition": 2}], ["case_error"]),
        ([{"outcome": "skipped"}], ["case_not_run"]),
        ([{}, {"outcome": "skipped", "repetition": 2}], ["case_not_run"]),
        ([{"part": "control:1"}], ["case_not_run"]),
        ([{}, {"outcome": "skipped", "part": "control:1"}], []),
        ([{"case_id": "rc_another"}], ["case_not_run"]),
    ],
)
def test_a_blocking_case_has_to_run_and_to_pass(rows, reasons):
    assert kinds(judged(*({"run_id": "one", **row} for row in rows))) == reasons


def test_the_reason_names_the_case_and_the_parts():
    (reason,) = judged({"run_id": "one"}, {"run_id": "one", "outcome": "fail", "part": "control:1"}).reasons
    assert (reason.subject, reason.text) == (CASE_ID, "1 of 2 runs failed (control:1).")


def test_a_case_that_does_not_block_or_is_retired_does_not_gate():
    bad = {"outcome": "fail"}
    assert judged(bad, candidates=({"is_blocking": False},)).passes
    assert judged(bad, reviews=({}, {"action": "retire"}), candidates=({"state": "retired"},)).passes
    assert judged(bad, candidates=({"state": "proposed"},)).passes


def test_the_last_run_of_a_case_on_the_version_counts_in_each_environment():
    first, second = {"outcome": "fail", "executed_at": at(1)}, {"executed_at": at(2)}
    old = [{"agent_version": "1.0", "executed_at": at(day / 10)} for day in range(20)]
    assert judged(first, second, *old).passes
    assert kinds(judged({**first, "executed_at": at(3)}, second, *old)) == ["case_failed"]
    other = {"outcome": "fail", "environment": "prod", "executed_at": at(1)}
    assert kinds(judged(other, second)) == ["case_failed"]
    assert judged(other, second, environment="ci").passes
    assert kinds(judged(second, environment="prod")) == ["no_results", "case_not_run"]


def test_a_quarantined_case_is_told_and_does_not_gate():
    flakes = [{"agent_version": "1.0", "outcome": one} for one in ("pass", "fail", "pass")]
    judgement = judged(*flakes, {"outcome": "fail"})
    assert (judgement.passes, judgement.case_count) == (True, 0)
    assert [note.kind for note in judgement.notes if note.subject == CASE_ID] == ["quarantined"]
    assert "It failed and does not count" in judgement.notes[0].text


def test_a_case_that_begins_to_flake_in_the_run_that_is_judged_still_stops_it():
    first = [{"run_id": "one", "repetition": number, "outcome": one} for number, one in enumerate(("pass", "fail"))]
    assert kinds(judged(*first)) == ["case_failed"]
    again = {"run_id": "two", "executed_at": at(9)}
    assert judged(*first, {**again, "outcome": "fail"}).passes


def test_a_severe_failure_that_the_version_before_did_not_have_stops_it():
    days = [ran("1.0"), ran("0.9", day=-5), ran("2.0", day=3), ran("3.0", day=9)]
    new = release(days, [failed("2.0", day=3), failed("0.9", day=-5)])
    judgement = judged({}, of=new)
    assert (kinds(judgement), judgement.baseline) == (["new_failure"], "1.0")
    assert judgement.reasons[0].text == "New since 1.0: full disk"
    assert "Mend the new failures" in judgement.advice
    assert judged({}, of=new, baseline="0.9").passes
    assert judged({}, of=release(days, [failed("2.0", day=3), failed("1.0")])).passes
    assert judged({}, of=release(days, [failed("2.0", day=3)], severity="medium")).passes
    assert judged({}, of=release(days, [failed("3.0", day=9)])).passes


def test_a_release_is_a_version_too():
    facts = [failed("a", release="2.0", day=3), failed("b", cluster=OTHER, release="1.0")]
    judgement = judged({}, of=release((), facts))
    assert (judgement.baseline, [reason.subject for reason in judgement.reasons]) == ("1.0", [CLUSTER])
    assert judged({}, of=release((), facts), baseline="1.0").reasons[0].text == "New since 1.0: full disk"


def test_failures_are_compared_within_the_environment():
    facts = [failed("2.0", day=3, environment="prod"), failed("1.0", environment="ci")]
    new = release([ran("1.0"), ran("2.0", day=3), ran("1.0", environment="prod")], facts)
    assert judged({}, of=new, environment="ci").passes
    row = {"environment": "prod"}
    assert kinds(judged(row, of=new, environment="prod")) == ["new_failure"]
    assert judged(row, of=new).passes


def test_signatures_of_one_cluster_are_one_failure():
    new = release([ran("1.0"), ran("2.0", day=3)], [failed("2.0", day=3), failed("1.0", cluster=OTHER)])
    assert judged({}, of=new, signatures=((CLUSTER, CLUSTER), (OTHER, CLUSTER))).passes


def test_the_first_version_has_nothing_to_be_compared_with():
    judgement = judged({}, of=release([ran("2.0")], [failed("2.0")]))
    assert judgement.passes
    assert [note.kind for note in judgement.notes] == ["no_baseline"]


def test_a_version_that_has_not_run_yet_is_compared_with_the_newest():
    assert judged({}, of=release([ran("1.0"), ran("1.1", day=2)], [failed("1.1", day=2)])).baseline == "1.1"


def test_the_published_tables_are_judged(warehouse):
    insert(warehouse, "failure_clusters", cluster_row(severity="high"))
    insert(warehouse, "failure_cluster_signatures", member_row())
    insert(warehouse, "regression_candidates", candidate_row())
    insert(warehouse, "regression_results", result_row())
    for version, days in (("1.0", 1), ("2.0", 2)):
        cube = {"day": at(days).date(), "agent_version": version, "execution_count": 1}
        insert(warehouse, "execution_rollup_daily", {**needed(warehouse, "execution_rollup_daily"), **cube})
    assert judge(warehouse, "2.0", None, None).passes
    fact = {"day": at(2).date(), "signature_id": CLUSTER, "agent_version": "2.0"}
    insert(warehouse, "failure_signatures_daily", {**needed(warehouse, "failure_signatures_daily"), **fact})
    judgement = judge(warehouse, "2.0", None, None)
    assert (kinds(judgement), judgement.baseline) == (["new_failure"], "1.0")
    assert judgement.to_dict()["reasons"][0]["subject"] == CLUSTER
    assert judge(warehouse, "2.0", "2.0", "ci").passes


def needed(warehouse, table):
    """A value for each column that must have one."""
    columns = warehouse.read(
        "select column_name::text, data_type::text from information_schema.columns "
        "where table_schema = 'agentmill' and table_name = %s and is_nullable = 'NO' and column_default is null",
        [table],
    )
    values = {"date": START.date(), "text": "x", "ARRAY": [], "timestamp with time zone": START}
    return {name: values.get(kind, 0) for name, kind in columns.rows()}
