import itertools
from datetime import timedelta

import polars as pl
import pytest
from regression_builders import CASE_ID, CLUSTER, START, at, candidate_row, cluster_row, insert, member_row, result_row
from test_scores import evidence

from pipelines.regression.gate import judge, judge_version
from pipelines.regression.new_failures import CLUSTERS, DAYS, FACTS, Release

OTHER = "fedcba9876543210"
_numbers = itertools.count(1)


def ran(version, day=0, environment="ci", agent="a1"):
    return (START.date() + timedelta(days=day), agent, version, environment)


def failed(version, cluster=CLUSTER, day=0, environment="ci", release=None, agent="a1"):
    return (START.date() + timedelta(days=day), cluster, environment, release, agent, version)


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
    ("row", "reasons"),
    [
        ({}, []),
        ({"outcome": "error"}, []),
        ({"outcome": "skipped"}, ["no_results"]),
        ({"case_id": "rc_another"}, ["no_results"]),
        ({"agent_version": "1.0"}, ["no_results"]),
    ],
)
def test_where_nothing_gates_some_case_that_is_known_must_have_run(row, reasons):
    judgement = judged(row, candidates=({"is_blocking": False},))
    assert kinds(judgement) == reasons
    (note,) = [note for note in judgement.notes if note.kind == "nothing_guarded"]
    assert note.text == "There is no approved blocking case: nothing was guarded."
    assert "nothing_guarded" not in [note.kind for note in judged({}).notes]


def test_results_of_other_cases_are_none_of_those_that_gate():
    cases = ({}, {"candidate_id": f"rc_{OTHER}", "cluster_id": OTHER, "is_blocking": False})
    judgement = judged({"case_id": f"rc_{OTHER}"}, candidates=cases, reviews=({}, {"candidate_id": f"rc_{OTHER}"}))
    assert kinds(judgement) == ["no_results", "case_not_run"]


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
        ([{"case_id": "rc_another"}], ["no_results", "case_not_run"]),
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


FLAKES = [{"agent_version": "1.0", "outcome": one, "executed_at": at(4)} for one in ("pass", "fail", "pass")]


def test_a_quarantined_case_is_told_and_does_not_gate():
    flaky = {"run_id": "one", "repetition": 2, "outcome": "fail"}
    judgement = judged(*FLAKES, {"run_id": "one"}, flaky)
    assert (judgement.passes, judgement.case_count) == (True, 0)
    (note,) = [note for note in judgement.notes if note.subject == CASE_ID]
    assert (note.kind, "It failed and does not count" in note.text) == ("quarantined", True)
    assert judged(*FLAKES, {"outcome": "error"}).passes


@pytest.mark.parametrize("part", ["contract", "control:1"])
def test_a_quarantined_case_of_which_a_part_failed_each_time_stops_it(part):
    rows = [{"run_id": "one", "part": one} for one in {"contract", "control:1"} - {part}]
    rows += [{"run_id": "one", "part": part, "repetition": number, "outcome": "fail"} for number in (1, 2, 3)]
    judgement = judged(*FLAKES, *rows)
    assert (kinds(judgement), judgement.case_count) == (["case_failed"], 0)
    assert judgement.reasons[0].text == f"It is quarantined, and yet every run failed ({part})."
    assert "quarantined" not in [note.kind for note in judgement.notes]
    elsewhere = [{**row, "environment": "prod"} for row in rows]
    assert kinds(judged(*FLAKES, {}, *elsewhere)) == ["case_failed"]
    assert judged(*FLAKES, {}, *elsewhere, environment="ci").passes


def test_a_case_that_begins_to_flake_in_the_run_that_is_judged_still_stops_it():
    first = [{"run_id": "one", "repetition": number, "outcome": one} for number, one in enumerate(("pass", "fail"))]
    assert kinds(judged(*first)) == ["case_failed"]
    again = [{**one, "run_id": "two", "executed_at": at(9)} for one in first]
    assert judged(*first, *again).passes


DAYS_RUN = [ran("1.0"), ran("0.9", day=-5), ran("2.0", day=3), ran("3.0", day=9)]


def test_a_severe_failure_that_was_not_there_before_the_version_stops_it():
    judgement = judged({}, of=release(DAYS_RUN, [failed("2.0", day=3), failed("3.0", day=9)]))
    assert (kinds(judgement), judgement.baseline) == (["new_failure"], None)
    assert judgement.first_day == at(3).date()
    assert judgement.reasons[0].text == "New in 2.0, not there before its first day, 2026-03-04: full disk"
    assert "Mend the new failures" in judgement.advice
    for version, day in (("1.0", 0), ("0.9", -5), ("1.0", 2)):
        assert judged({}, of=release(DAYS_RUN, [failed("2.0", day=3), failed(version, day=day)])).passes
    assert kinds(judged({}, of=release(DAYS_RUN, [failed("2.0", day=4), failed("1.0", day=3)]))) == ["new_failure"]
    assert judged({}, of=release(DAYS_RUN, [failed("2.0", day=3)], severity="medium")).passes
    assert judged({}, of=release(DAYS_RUN, [failed("3.0", day=9)])).passes


def test_a_baseline_is_the_one_version_that_is_compared_with():
    old = release(DAYS_RUN, [failed("2.0", day=3), failed("0.9", day=-5)])
    assert judged({}, of=old).passes
    assert judged({}, of=old, baseline="0.9").passes
    judgement = judged({}, of=old, baseline="1.0")
    assert (kinds(judgement), judgement.baseline, judgement.first_day) == (["new_failure"], "1.0", None)
    assert judgement.reasons[0].text == "New since 1.0: full disk"
    later = release(DAYS_RUN, [failed("2.0", day=3), failed("3.0", day=9)])
    assert judged({}, of=later, baseline="3.0").passes


def test_another_agent_is_nothing_to_compare_with():
    days = [ran("1.0"), ran("b-7", day=5, agent="b"), ran("2.0", day=9)]
    old = release(days, [failed("1.0"), failed("2.0", day=9)])
    assert judged({}, of=old).passes
    elsewhere = release(days, [failed("b-7", day=5, agent="b"), failed("2.0", day=9)])
    assert kinds(judged({}, of=elsewhere)) == ["new_failure"]
    missed = judged({}, of=elsewhere, baseline="b-7")
    assert kinds(missed) == ["new_failure"]
    assert [note.text for note in missed.notes] == ["Version b-7 did not run its agents: every failure is new."]


def test_the_first_day_of_a_version_is_that_of_each_agent():
    days = [ran("1.0"), ran("2.0", day=5), ran("1.0", agent="b"), ran("2.0", day=9, agent="b")]
    facts = [failed("1.0", day=7, agent="b"), failed("2.0", day=9, agent="b")]
    assert judged({}, of=release(days, facts)).passes
    assert kinds(judged({}, of=release(days, facts[1:]))) == ["new_failure"]


@pytest.mark.parametrize(
    ("states", "environment", "passes"),
    [
        ((("ci", "resolved"),), None, True),
        ((("ci", "muted"), ("prod", "resolved")), None, True),
        ((("ci", "resolved"), ("prod", "ongoing")), None, False),
        ((("ci", "resolved"), ("prod", "ongoing")), "ci", True),
        ((("ci", "new"), ("prod", "resolved")), "ci", False),
        ((("prod", "resolved"),), "ci", False),
    ],
)
def test_a_new_failure_that_is_resolved_or_muted_wherever_it_is_asked_for_does_not_count(states, environment, passes):
    new = release(DAYS_RUN, [failed("2.0", day=3)])
    told = tuple((CLUSTER, *state) for state in states)
    assert judged({}, of=new, environment=environment, states=told).passes == passes


def test_a_release_is_a_version_too():
    facts = [failed("a", release="2.0", day=3), failed("b", cluster=OTHER, release="1.0")]
    judgement = judged({}, of=release((), facts))
    assert [reason.subject for reason in judgement.reasons] == [CLUSTER]
    assert judged({}, of=release((), facts), baseline="1.0").reasons[0].text == "New since 1.0: full disk"
    assert judged({}, of=release((), [*facts, failed("b", release="1.0")]), baseline="1.0").passes


def test_failures_are_compared_within_the_environment():
    facts = [failed("2.0", day=3, environment="prod"), failed("1.0", environment="ci")]
    new = release([ran("1.0"), ran("2.0", day=3), ran("1.0", environment="prod")], facts)
    assert judged({}, of=new).passes
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
    (note,) = judgement.notes
    assert note.text == "Its agents did not run before 2026-03-01: its failures cannot be compared."
    assert judgement.first_day is None


def test_a_version_that_has_not_run_yet_has_no_new_failure():
    (note,) = judged({}, of=release([ran("1.0"), ran("1.1", day=2)], [failed("1.1", day=2)])).notes
    assert note.text == "Version 2.0 has not run yet: there are no failures to compare."


def test_the_published_tables_are_judged(warehouse):
    insert(warehouse, "failure_clusters", cluster_row(severity="high"))
    insert(warehouse, "failure_cluster_signatures", member_row())
    insert(warehouse, "regression_candidates", candidate_row())
    insert(warehouse, "regression_results", result_row())
    for version, days in (("1.0", 1), ("2.0", 2)):
        cube = {"day": at(days).date(), "agent_id": "a1", "agent_version": version, "execution_count": 1}
        insert(warehouse, "execution_rollup_daily", {**needed(warehouse, "execution_rollup_daily"), **cube})
    assert judge(warehouse, "2.0", None, None).passes
    fact = {"day": at(2).date(), "signature_id": CLUSTER, "agent_id": "a1", "agent_version": "2.0"}
    insert(warehouse, "failure_signatures_daily", {**needed(warehouse, "failure_signatures_daily"), **fact})
    judgement = judge(warehouse, "2.0", None, None)
    assert (kinds(judgement), judgement.first_day) == (["new_failure"], at(2).date())
    broken = judge(warehouse, "2.0", None, None, [("r.json", "it is no file of results")])
    assert kinds(broken) == ["results_broken", "new_failure"]
    assert broken.reasons[0].text == "It brought no result: it is no file of results."
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
