import itertools

import polars as pl
import pytest
from conftest import as_frame
from regression_builders import CASE_ID, CLUSTER, at, candidate_row, result_row, review_row

from pipelines.regression.scores import (
    CANDIDATES,
    RESULTS,
    REVIEWS,
    SIGNATURES,
    STATES,
    Evidence,
    derive_cases,
    passing,
    score,
    wilson_high,
    wilson_low,
)

OTHER = "fedcba9876543210"
_numbers = itertools.count(1)


def frame(schema, rows):
    return as_frame([{name: value for name, value in row.items() if name in schema} for row in rows], schema)


def results(*rows):
    return frame(RESULTS, [result_row(**{"run_id": f"run-{next(_numbers)}", **row}) for row in rows])


def verdicts(outcomes, **overrides):
    """A run a day for each letter: p pass, f fail, e error, s skipped."""
    names = {"p": "pass", "f": "fail", "e": "error", "s": "skipped"}
    return [{"executed_at": at(day), "outcome": names[one], **overrides} for day, one in enumerate(outcomes)]


def evidence(*rows, candidates=({},), reviews=({},), states=(), signatures=((CLUSTER, CLUSTER),)):
    return Evidence(
        frame(CANDIDATES, [candidate_row(**one) for one in candidates]),
        frame(REVIEWS, [{"review_id": number, **review_row(**one)} for number, one in enumerate(reviews, 1)]),
        results(*rows),
        pl.DataFrame(list(signatures), schema=SIGNATURES, orient="row"),
        pl.DataFrame(list(states), schema=STATES, orient="row"),
    )


def score_of(*rows):
    return score(results(*rows)).row(0, named=True)


def case_of(*rows, **tables):
    derived = derive_cases(evidence(*rows, **tables), {CASE_ID: "a1"})
    assert derived.height == 1
    return derived.row(0, named=True)


@pytest.mark.parametrize(
    ("outcomes", "confidence"),
    [("ppp", 0.53), ("ppppp", 0.65), ("p" * 10, 0.79), ("p" * 20, 0.88), ("", None), ("es", None), ("eppps", 0.53)],
)
def test_confidence_grows_with_verdicts_and_only_with_these(outcomes, confidence):
    if not outcomes:
        assert score(results()).is_empty()
        return
    found = score_of(*verdicts(outcomes))["confidence_score"]
    assert (None if found is None else round(found, 2)) == confidence


def test_a_test_that_failed_on_the_broken_version_was_right_each_time():
    broken, mended = verdicts("fff", agent_version="1.0"), verdicts("pppp", agent_version="2.0")
    assert score_of(*broken, *mended)["confidence_score"] == score_of(*verdicts("p" * 7))["confidence_score"]


def test_confidence_falls_with_flakes_and_half_of_a_tie_is_right():
    steady, once, tie = (score_of(*verdicts(outcomes))["confidence_score"] for outcomes in ("pppp", "pppf", "ppff"))
    assert steady > once > tie
    expected = pl.select(wilson_low(pl.lit(2.0), pl.lit(4.0))).item()
    assert tie == pytest.approx(expected)


def test_the_bounds_are_those_of_wilson():
    # Wilson score interval with z = 1.645 of 7 in 10, worked out by hand: centre 0.6574, half width 0.2157.
    low, high = pl.select(wilson_low(pl.lit(7), pl.lit(10)), high=wilson_high(pl.lit(7), pl.lit(10))).row(0)
    assert (low, high) == (pytest.approx(0.4417, abs=5e-4), pytest.approx(0.8731, abs=5e-4))
    assert pl.select(wilson_low(pl.lit(0), pl.lit(0))).item() is None


def test_counts_are_of_the_contract_and_the_last_run_is_told_with_its_controls():
    found = score_of(
        *verdicts("fp", agent_version="1.0"),
        {"run_id": "last", "executed_at": at(9), "outcome": "pass", "repetition": 1},
        {"run_id": "last", "executed_at": at(9), "outcome": "skipped", "repetition": 2},
        {"run_id": "last", "executed_at": at(9), "outcome": "error", "part": "control:1"},
    )
    assert [found[f"{name}_count"] for name in ("run", "pass", "fail", "error", "skipped")] == [4, 2, 1, 0, 1]
    assert found["pass_rate"] == pytest.approx(2 / 3)
    assert (found["first_run_at"], found["last_run_at"]) == (at(0), at(9))
    assert (found["last_outcome"], found["last_version"], found["passing_since"]) == ("error", "2.0", None)


@pytest.mark.parametrize(
    ("outcomes", "since"),
    [("ppp", 0), ("fpp", 1), ("ppf", None), ("pfpsp", 2), ("pep", 2), ("pps", 0), ("s", None), ("fps", 1)],
)
def test_it_passes_since_the_first_run_that_no_fail_followed(outcomes, since):
    rows = [{**row, "agent_version": str(number)} for number, row in enumerate(verdicts(outcomes))]
    assert score_of(*rows)["passing_since"] == (None if since is None else at(since))


@pytest.mark.parametrize(
    ("rows", "is_flaky"),
    [
        (verdicts("pf", run_id="one"), True),
        (verdicts("ppf", run_id="one"), True),
        (verdicts("pfp"), True),
        (verdicts("fpf"), True),
        (verdicts("fffppp"), False),
        (verdicts("pppfff"), False),
        (verdicts("fp", environment="a") + verdicts("pf", environment="b"), False),
        (verdicts("fp", agent_version="1.0") + verdicts("pf", agent_version="2.0"), False),
        (verdicts("p" * 19 + "f", run_id="one"), False),
        (verdicts("p" * 18 + "ff", run_id="one"), True),
        (verdicts("p" * 10 + "f" + "p" * 9), False),
        (verdicts("f" * 19 + "p", run_id="one"), False),
        (verdicts("pfp" + "p" * 20), False),
        (verdicts("fff", agent_version="1.0") + verdicts("ppp", agent_version="2.0"), False),
        (verdicts("fff", environment="a") + verdicts("ppp", environment="b"), False),
        (verdicts("ff") + verdicts("pp", part="control:1"), False),
        (verdicts("pp", run_id="one") + verdicts("pf", run_id="one", part="control:1"), True),
        (verdicts("pfp", agent_version=None), False),
        (verdicts("pf", agent_version=None, run_id="one"), True),
        (verdicts("pees"), False),
    ],
)
def test_it_flakes_where_one_run_or_a_version_to_and_fro_passes_and_fails_and_not_by_accident(rows, is_flaky):
    rows = [{**row, "repetition": number} for number, row in enumerate(rows, 1)]
    assert score_of(*rows)["is_flaky"] == is_flaky


def test_a_fix_under_one_label_does_not_count_towards_flakes_of_another():
    mended, flaky = verdicts("ffffpp", agent_version="1.9"), verdicts("pfp", agent_version="2.0")
    reason = case_of(*mended, *flaky)["state_reason"]
    assert reason == "its contract passed 2 of 3 times on versions where it was unsteady"


def test_a_flaky_case_is_quarantined_and_says_why():
    case = case_of(*verdicts("pfp"))
    assert (case["state"], case["is_flaky"]) == ("quarantined", True)
    assert case["state_reason"] == "its contract passed 2 of 3 times on versions where it was unsteady"


def test_a_case_that_was_never_run_is_active_without_a_score():
    case = case_of()
    assert (case["state"], case["state_reason"]) == ("active", "approved by ann: it came back")
    assert (case["run_count"], case["is_flaky"], case["confidence_score"], case["last_outcome"]) == (
        0,
        False,
        None,
        None,
    )
    assert (case["agent_id"], case["approved_by"], case["approved_at"]) == ("a1", "ann", at(3))


RESOLVED = ((CLUSTER, "ci", "resolved"), (CLUSTER, None, "resolved"))


@pytest.mark.parametrize(
    ("days", "states", "state"),
    [
        ([90 / 19 * number for number in range(20)], RESOLVED, "retired"),
        ([90 / 19 * number for number in range(20)], (), "active"),
        ([90 / 19 * number for number in range(20)], (RESOLVED[0], (CLUSTER, "prod", "ongoing")), "active"),
        ([90 / 18 * number for number in range(19)], RESOLVED, "active"),
        ([89 / 19 * number for number in range(20)], RESOLVED, "active"),
    ],
)
def test_a_case_retires_when_it_has_guarded_a_resolved_failure_for_ninety_days_and_twenty_runs(days, states, state):
    case = case_of(*({"executed_at": at(day)} for day in days), states=states)
    assert case["state"] == state
    assert (case["state_reason"] == "has guarded a fixed failure long enough") == (state == "retired")


def test_a_fail_begins_the_guard_anew():
    days = [90 / 19 * number for number in range(20)]
    rows = [{"executed_at": at(day), "agent_version": str(day)} for day in days]
    rows.append({"executed_at": at(50), "agent_version": "50", "outcome": "fail"})
    assert case_of(*rows, states=RESOLVED)["state"] == "active"


def test_what_a_person_retired_is_retired_until_it_is_approved_again():
    retire = {"action": "retire", "reviewed_by": "bob", "reason": "done"}
    case = case_of(reviews=({}, retire), candidates=({"state": "retired"},))
    assert (case["state"], case["state_reason"], case["approved_by"]) == ("retired", "done (bob)", "ann")
    assert case_of(reviews=({}, retire, {"reviewed_by": "eve"}))["state"] == "active"


def test_a_case_outlives_the_retirement_of_what_became_part_of_it():
    retire = {"action": "retire", "candidate_id": f"rc_{OTHER}"}
    signatures = ((CLUSTER, CLUSTER), (OTHER, CLUSTER))
    assert case_of(reviews=({}, retire), signatures=signatures)["state"] == "active"


@pytest.mark.parametrize("state", ["proposed", "held", "rejected", "merged"])
def test_what_is_not_approved_is_no_case(state):
    assert derive_cases(evidence(candidates=({"state": state},)), {}).is_empty()
    assert derive_cases(evidence(candidates=({"state": "retired"},), reviews=()), {}).is_empty()


def test_results_and_reviews_under_an_older_id_count_after_clusters_have_merged():
    tables = {"reviews": ({"candidate_id": f"rc_{OTHER}"},), "signatures": ((CLUSTER, CLUSTER), (OTHER, CLUSTER))}
    case = case_of({"case_id": f"rc_{OTHER}"}, {"case_id": CASE_ID}, {"case_id": "rc_unknown"}, **tables)
    assert (case["case_id"], case["run_count"], case["approved_by"]) == (CASE_ID, 2, "ann")


def test_what_a_run_tells_again_with_a_version_counts_once():
    unnamed = {"run_id": "one", "agent_version": None, "environment": None}
    case = case_of(unnamed, {"run_id": "one", "environment": None}, {"run_id": "one"}, {**unnamed, "repetition": 2})
    assert (case["run_count"], case["last_version"]) == (2, "2.0")


def test_the_order_of_rows_does_not_matter():
    told = evidence(*verdicts("fppsep"), *verdicts("pfp", part="control:1"))
    turned = Evidence(told.candidates, told.reviews, told.results.reverse(), told.signatures, told.states)
    assert derive_cases(told, {}).equals(derive_cases(turned, {}))


BROKEN = {"run_id": "b", "executed_at": at(4), "outcome": "fail", "agent_version": "1.0"}
PROOF = (CLUSTER, None, at(5), "2.0")


def proofs(*rows, **tables):
    return passing(evidence(BROKEN, *rows, **tables)).rows()


def test_a_run_in_which_everything_passed_proves_the_failure_gone():
    whole = [{"run_id": "r"}, {"run_id": "r", "repetition": 2}, {"run_id": "r", "part": "control:1"}]
    assert proofs(*whole) == [PROOF]


@pytest.mark.parametrize(
    ("outcome", "place"),
    [
        ("fail", {"repetition": 2}),
        ("error", {"repetition": 2}),
        ("skipped", {"repetition": 2}),
        ("fail", {"part": "control:1"}),
        ("error", {"part": "control:1"}),
    ],
)
def test_a_run_in_which_anything_broke_or_the_contract_was_cut_short_proves_nothing(outcome, place):
    assert proofs({"run_id": "r"}, {"run_id": "r", "outcome": outcome, **place}) == []


def test_a_control_that_was_skipped_neither_proves_nor_refutes():
    skipped = {"run_id": "r", "part": "control:1", "outcome": "skipped"}
    assert proofs({"run_id": "r"}, skipped) == [PROOF]
    assert proofs(skipped) == []
    assert score_of({"run_id": "r"}, skipped)["passing_since"] == at(5)


@pytest.mark.parametrize(
    ("failed", "passed", "is_proof"),
    [
        ("1.0", "2.0", True),
        ("2.0", "1.5", False),
        ("2.0", "2.0.0", False),
        ("2.0-rc1", "2.0", True),
        ("3f2a9c1", "b7d0e44", True),
        ("3f2a9c1", "3f2a9c1", False),
        ("1.0", None, False),
        (None, "2.0", False),
        (None, None, False),
    ],
)
def test_a_proof_is_on_a_version_after_the_one_that_failed_and_both_are_named(failed, passed, is_proof):
    rows = passing(evidence({**BROKEN, "agent_version": failed}, {"agent_version": passed})).rows()
    assert rows == ([(CLUSTER, None, at(5), passed)] if is_proof else [])


@pytest.mark.parametrize(
    ("other", "is_proof"),
    [
        ({"agent_version": "3.0"}, False),
        ({"agent_version": "2.0", "environment": "production"}, False),
        ({"agent_version": "1.5"}, True),
        ({"agent_version": "b7d0e44"}, True),
        ({"agent_version": "2.0"}, True),
    ],
    ids=["later", "elsewhere", "earlier", "unordered", "itself"],
)
def test_a_pass_proves_nothing_where_the_contract_fails_on_a_version_that_is_not_older(other, is_proof):
    fails = {"run_id": "o", "executed_at": at(4.5), "outcome": "fail", **other}
    assert proofs(fails, {}) == ([PROOF] if is_proof else [])
    mended = {**fails, "run_id": "m", "executed_at": at(4.7), "outcome": "pass"}
    assert PROOF in proofs(fails, mended, {})
    cut_short = {**mended, "outcome": "error"}
    assert proofs(fails, cut_short, {}) == ([PROOF] if is_proof else [])


def test_a_pass_proves_nothing_where_the_same_version_fails_elsewhere_at_that_moment():
    fails = {"run_id": "o", "outcome": "fail", "environment": "production"}
    assert proofs({}, fails) == proofs(fails, {}) == []


def test_a_control_that_failed_before_has_not_seen_the_failure():
    contract = {**BROKEN, "outcome": "pass"}
    assert passing(evidence(contract, {**BROKEN, "part": "control:1"}, {})).rows() == []


def test_a_run_without_the_contract_or_of_a_flaky_or_unapproved_case_proves_nothing():
    assert proofs({"part": "control:1"}) == []
    assert proofs(*verdicts("pfp"), {"executed_at": at(9)}) == []
    assert proofs({}, candidates=({"state": "proposed"},)) == []
    assert proofs({"case_id": f"rc_{OTHER}"}) == []


def test_a_test_that_had_not_failed_on_another_version_proves_nothing():
    assert passing(evidence({})).rows() == []
    assert proofs({"executed_at": at(3)}) == []
    assert passing(evidence({**BROKEN, "agent_version": "2.0"}, {})).rows() == []
    assert passing(evidence({**BROKEN, "executed_at": at(6)}, {})).rows() == []
