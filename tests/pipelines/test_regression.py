import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame, enter_day
from hypothesis import given
from hypothesis import strategies as st

from pipelines.anonymize.text import DEFAULT
from pipelines.execution import EXECUTION
from pipelines.failures import (
    CLUSTERS,
    EXECUTION_COUNTS,
    History,
    derive_clusters,
    publish_clusters,
    signature_facts,
)
from pipelines.failures.classify import CATEGORIES
from pipelines.publication import publish_derived
from pipelines.regression import publish_candidates
from pipelines.regression.candidates import CANDIDATE, Evidence, derive_candidates
from pipelines.regression.priority import prioritise
from pipelines.regression.reviews import REVIEW, Review, ReviewError, review_candidate
from pipelines.regression.strikes import STRIKES, WINDOW, find_strike
from pipelines.settings import FailureSettings

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=50)
STATES = pl.Schema({"cluster_id": pl.String(), "state": pl.String(), "reason": pl.String()})


def at(days=0.0):
    return START + timedelta(days=days)


def failed(day, number=0, message="the disk is full", **overrides):
    return {
        "source": "app",
        "execution_id": f"r{number}-{day}",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "a",
        "status": "failed",
        "error_message": message,
        "event_time": at(day),
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def facts(*rows):
    return signature_facts(as_frame(list(rows), EXECUTION))


def candidates(facts, reviews=(), muted=(), covered=(), policy="gated", as_of=END):
    """Candidates of some facts; reviews are (day, action, more) about the only cluster."""
    clusters = derive_clusters(History(facts, EXECUTION_COUNTS.to_frame()))[CLUSTERS]
    told = [
        {
            "review_id": number,
            "reviewed_at": at(day),
            "reviewed_by": "kim",
            "candidate_id": f"rc_{clusters['signature_ids'][0][-1]}",
            "action": action,
            "is_blocking": True,
            "reason": "why",
            **more,
        }
        for number, (day, action, more) in enumerate(reviews)
    ]
    evidence = Evidence(
        facts=facts,
        clusters=clusters,
        states=pl.DataFrame([(one, "muted", "too loud") for one in muted], schema=STATES, orient="row"),
        reviews=pl.DataFrame(told, schema=REVIEW) if told else REVIEW.to_frame(),
        covered=frozenset(covered),
        as_of=as_of,
    )
    return derive_candidates(evidence, policy)


def one(*rows, **said):
    """The only candidate, as a mapping; None where there is none."""
    told = candidates(facts(*rows), **said)
    assert told.height <= 1
    return told.row(0, named=True) if told.height else None


@pytest.mark.parametrize(
    ("days", "struck"),
    [
        ([], None),
        ([0], None),
        ([0, 1], None),
        ([0, 1, 2], 2),
        ([0, 3, 6.99], 6.99),
        ([0, 3, 7], None),
        ([0, 3, 8], None),
        ([0, 5, 8, 11], 11),
        ([0, 0, 0], 0),
        ([9, 0, 8, 7], 9),
    ],
)
def test_three_within_seven_days_strike(days, struck):
    found = find_strike([at(day) for day in days])
    assert (found and found.struck_at) == (at(struck) if struck is not None else None)


@given(st.lists(st.integers(0, 60 * 24 * 30), max_size=12))
def test_a_strike_is_the_first_there_is(minutes):
    times = sorted(START + timedelta(minutes=minute) for minute in minutes)
    windows = [(last, first) for first, last in zip(times, times[STRIKES - 1 :], strict=False) if last - first < WINDOW]
    found = find_strike(times[::-1])
    assert (found and (found.struck_at, found.window_started_at)) == (min(windows) if windows else None)


@given(st.lists(st.tuples(st.integers(0, 60 * 24 * 12), st.sampled_from([None, "1", "2"])), min_size=1, max_size=40))
def test_daily_facts_are_enough_to_find_the_strike(drawn):
    rows = [failed(minute / 1440, number, agent_version=version) for number, (minute, version) in enumerate(drawn)]
    expected = find_strike([row["event_time"] for row in rows])
    told = candidates(facts(*rows))
    assert told["struck_at"].to_list() == ([] if expected is None else [expected.struck_at])


SCENARIOS = {
    "a first failure is none": ([0], {}, None),
    "a second is none": ([0, 1], {}, None),
    "a third within seven days is": ([0, 1, 2], {}, "proposed"),
    "three in eight days are none": ([0, 3, 8], {}, None),
    "a fourth that makes three in seven days is": ([0, 3, 8, 9], {}, "proposed"),
    "rejected, it stays away": ([0, 1, 2], {"reviews": [(3, "reject", {})]}, "rejected"),
    "rejected, more of the same does not bring it back": (
        [0, 1, 2, 4, 5, 6],
        {"reviews": [(3, "reject", {})]},
        "rejected",
    ),
    "rejected, three times as many bring it back": (
        [0, 1, 2, *(4 + n / 10 for n in range(30))],
        {"reviews": [(3, "reject", {})]},
        "proposed",
    ),
    "muted, it waits": ([0, 1, 2], {"is_muted": True}, "held"),
    "covered by its source's own test, it waits": ([0, 1, 2], {"covered": ["r0-1"]}, "held"),
    "approved, it covers its failure": ([0, 1, 2, 30, 31, 32], {"reviews": [(3, "approve", {})]}, "approved"),
    "merged, another covers it": ([0, 1, 2], {"reviews": [(3, "merge", {"merged_into": "rc_x"})]}, "merged"),
    "retired by a person": ([0, 1, 2], {"reviews": [(3, "approve", {}), (9, "retire", {})]}, "retired"),
    "reopened, it is proposed again": ([0, 1, 2], {"reviews": [(3, "reject", {}), (4, "reopen", {})]}, "proposed"),
    "gone for sixty days, it retires by itself": ([0, 1, 2], {"as_of": at(62.1)}, "retired"),
    "to the letter, a mute does not hold it": ([0, 1, 2], {"is_muted": True, "policy": "three_strikes"}, "proposed"),
}


@pytest.mark.parametrize(("days", "said", "state"), SCENARIOS.values(), ids=SCENARIOS)
def test_what_becomes_of_a_failure(days, said, state):
    rows = [failed(day) for day in days]
    muted = [facts(*rows)["signature_id"][0]] if said.get("is_muted") else []
    told = one(*rows, **{name: value for name, value in said.items() if name != "is_muted"}, muted=muted)
    assert (told and told["state"]) == state


def test_the_same_type_with_another_message_is_another_failure():
    rows = [
        failed(day, day, f"{word}", error_type="Boom")
        for day, word in enumerate(("disk is full", "no fuel", "bad map"))
    ]
    assert candidates(facts(*rows)).height == 0


def test_a_candidate_says_when_how_often_and_shows_evidence():
    told = one(failed(0, 1), failed(2, 2), failed(2, 3), failed(40, 4))
    assert (told["window_started_at"], told["struck_at"]) == (at(0), at(2))
    assert told["window_occurrence_count"] == 3
    assert (told["kind"], told["is_blocking"]) == ("behaviour", False)
    assert [(gate["gate"], gate["passed"]) for gate in json.loads(told["gates"])] == [
        ("has_evidence", True),
        ("is_not_muted", True),
        ("is_not_covered", True),
    ]
    assert told["evidence_execution_ids"]


@pytest.mark.parametrize(("place", "value"), [("agent_id", "b"), ("agent_version", "2")])
def test_a_rejected_one_comes_back_where_it_did_not_happen_before(place, value):
    before = [failed(day) for day in (0, 1, 2)]
    back = one(*before, *(failed(day, 1, **{place: value}) for day in (4, 5, 6)), reviews=[(3, "reject", {})])
    assert (back["state"], back["state_since"]) == ("proposed", at(6))
    assert f" {value}, which had not failed so before" in back["state_reason"]
    few = one(*before, *(failed(day, 1, **{place: value}) for day in (4, 5)), reviews=[(3, "reject", {})])
    assert few["state"] == "rejected"
    late = one(*before, *(failed(day, 1, **{place: value}) for day in (0, 1, 2)), reviews=[(3, "reject", {})])
    assert late["state"] == "rejected", "what is told late was there when it was rejected"


def test_a_providers_failure_asks_for_resilience():
    rows = [failed(day, day, "HTTP 429 too many requests") for day in range(3)]
    assert one(*rows)["kind"] == "resilience"
    assert one(*rows, policy="three_strikes")["kind"] == "behaviour"


def test_a_late_third_strike_makes_the_candidate():
    daily = [facts(failed(day, day)) for day in (0, 4, 2)]
    assert candidates(pl.concat(daily[:2])).height == 0
    assert candidates(pl.concat(daily)).equals(candidates(pl.concat(daily[::-1])))
    assert candidates(pl.concat(daily)).height == 1


def test_what_was_said_of_one_holds_for_the_failure_it_became_part_of():
    names = ("orders", "users", "items")
    rows = [failed(day, day, f"could not open the table {name} of the shop") for day, name in enumerate(names)]
    told = one(*rows, reviews=[(3, "approve", {})])
    assert told["state"] == "approved"
    assert told["candidate_id"] == f"rc_{facts(rows[0])['signature_id'][0]}"


def test_no_facts_make_no_candidates():
    told = candidates(facts())
    assert told.schema == CANDIDATE
    assert told.height == 0


def test_priority_shows_its_parts_and_leaves_out_what_is_not_known():
    known = {
        "severity": "high",
        "category": "ai_timeout",
        "user_count": 10,
        "last_seen_at": at(43),
        "trend": "rising",
        "last_week_count": 9,
        "week_before_count": 1,
        "shaped_count": 3,
        "same_input_count": 4,
    }
    priority, parts = prioritise(known, END)
    assert {name: part["share"] for name, part in parts.items()} == {
        "severity": 1.0,
        "reach": 0.5,
        "recency": 0.5,
        "trend": 1.0,
        "determinism": 0.75,
    }
    assert priority == 0.75
    without, parts = prioritise(known | {"same_input_count": 0}, END)
    assert "determinism" not in parts
    assert without == 0.75


@pytest.fixture
def struck(warehouse, prices):
    for number in range(3):
        day = at(number).date()
        rows = as_frame([failed(number, number)], EXECUTION)
        publish_derived(enter_day(warehouse, day, rows), warehouse, prices)
    publish_clusters(warehouse)
    return warehouse


def test_running_again_doubles_nothing(struck):
    once = publish_candidates(struck)
    publish_clusters(struck)
    assert publish_candidates(struck).equals(once)
    assert struck.read("select candidate_id from agentmill.regression_candidates").rows() == [
        (once["candidate_id"][0],)
    ]


def test_the_policy_is_a_setting_and_changing_it_publishes_anew(struck):
    assert publish_candidates(struck)["policy"].to_list() == ["gated"]
    publish_candidates(struck, FailureSettings(candidate_policy="three_strikes"))
    assert struck.read("select policy from agentmill.regression_candidates").item() == "three_strikes"


def test_what_people_say_is_kept_sanitized_and_decides(struck):
    candidate = publish_candidates(struck)["candidate_id"][0]
    said = Review(
        candidate,
        "approve",
        "kim",
        "asked for by ann.b@example.org",
        fixture={"question": "1+1", "from": ["me@example.org", 7]},
    )
    review_candidate(struck, said, DEFAULT)
    told = publish_candidates(struck).row(0, named=True)
    assert (told["state"], told["reviewed_by"], told["is_blocking"]) == ("approved", "kim", True)
    assert told["state_reason"] == "by kim: asked for by <email>"
    review_candidate(struck, Review(candidate, "retire", "kim", "the tool is gone"), DEFAULT)
    assert publish_candidates(struck)["state"].to_list() == ["retired"]
    assert struck.read("select action, fixture::text from agentmill.candidate_reviews order by 1").rows() == [
        ("approve", '{"from": ["<email>", 7], "question": "1+1"}'),
        ("retire", None),
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"candidate_id": "rc_none"}, "There is no candidate rc_none"),
        ({"candidate_id": "'; drop table x; --"}, "There is no candidate '; drop table x; --"),
        ({"reason": " \n"}, "must not be blank"),
        ({"reviewed_by": ""}, "must not be blank"),
        ({"action": "bless"}, "There is no action bless"),
        ({"action": "merge"}, "merged_into names the candidate"),
        ({"merged_into": "rc_x"}, "merged_into names the candidate"),
        ({"action": "merge", "merged_into": "rc_x"}, "There is no candidate rc_x"),
    ],
)
def test_what_cannot_be_entered_is_refused_with_a_sentence(struck, said, why):
    candidate = publish_candidates(struck)["candidate_id"][0]
    review = {"candidate_id": candidate, "action": "approve", "reviewed_by": "kim", "reason": "why"} | said
    with pytest.raises(ReviewError, match=why.replace("(", r"\(")):
        review_candidate(struck, Review(**review), DEFAULT)
    assert struck.read("select count(*) from agentmill.candidate_reviews").item() == 0


def test_a_catalogue_of_generation_failures_knows_six_categories(warehouse):
    kinds = {
        category: (known, severity)
        for category, known, severity in warehouse.read(
            "select category, failure_category, severity from unnest(%s::text[]) as category, "
            "lateral agentmill.generation_failure_kind(category)",
            [[*(one.name for one in CATEGORIES), "unknown", None]],
        ).iter_rows()
    }
    same = {
        "ai_timeout": "high",
        "rate_limit": "medium",
        "validation_error": "high",
        "dependency_error": "medium",
        "syntax_error": "medium",
    }
    assert {category: kinds.pop(category) for category in same} == {
        category: (category, severity) for category, severity in same.items()
    }
    assert set(kinds.values()) == {("unknown", "medium")}


def test_the_tests_of_older_applications_have_the_counts_of_their_cases(struck):
    candidate = publish_candidates(struck)["candidate_id"][0]
    read = "select id, test_name, is_active, run_count, confidence_score from compat.auto_generated_tests"
    assert struck.read(read).rows() == [(candidate, "regression_unknown", False, None, None)]
    with struck.connect() as connection:
        connection.execute(
            "insert into agentmill.regression_cases (case_id, candidate_id, cluster_id, kind, state, state_reason, "
            "is_blocking, approved_at, approved_by, run_count, pass_count, fail_count, error_count, skipped_count, "
            "is_flaky, confidence_score) "
            "values (%s, %s, 'c', 'behaviour', 'active', '', true, now(), 'kim', 3, 3, 0, 0, 0, false, 0.53)",
            [candidate] * 2,
        )
    assert struck.read(read).rows() == [(candidate, "regression_unknown", True, 3, 0.53)]
