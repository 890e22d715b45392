import contextlib
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import psycopg
import pytest
from conftest import as_frame, enter_day
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

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
from pipelines.failures.decisions import decide
from pipelines.failures.derived import CLUSTER_SIGNATURES
from pipelines.publication import publish_derived
from pipelines.regression import publish_candidates
from pipelines.regression.candidates import CANDIDATE, Evidence, derive_candidates
from pipelines.regression.priority import prioritise
from pipelines.regression.reviews import REVIEW, Review, ReviewError, read_reviews, review_candidate
from pipelines.regression.strikes import STRIKES, WINDOW, find_strike
from pipelines.settings import FailureSettings
from pipelines.warehouse.dictionary import load_dictionary
from pipelines.warehouse.roles import ANALYST, ONCALL

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


def candidates(facts, reviews=(), muted=(), covered=(), policy="gated", active_days=50):
    """Candidates of some facts; reviews are (day, action, more) about the only cluster."""
    tables = derive_clusters(History(facts, EXECUTION_COUNTS.to_frame()))
    clusters = tables[CLUSTERS]
    told = [
        {
            "review_id": number,
            "reviewed_at": at(day),
            "reviewed_by": "kim",
            "candidate_id": f"rc_{clusters['signature_ids'][0][-1]}",
            "signature_ids": [clusters["signature_ids"][0][-1]],
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
        signatures=tables[CLUSTER_SIGNATURES],
        states=pl.DataFrame([(one, "muted", "too loud") for one in muted], schema=STATES, orient="row"),
        reviews=pl.DataFrame(told, schema=REVIEW) if told else REVIEW.to_frame(),
        covered=frozenset(covered),
        active_days=[(START + timedelta(days=day)).date() for day in range(active_days)],
        as_of=END,
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
    "merged into what is no candidate, it asks again": (
        [0, 1, 2],
        {"reviews": [(3, "merge", {"merged_into": "rc_x"})]},
        "proposed",
    ),
    "retired by a person": ([0, 1, 2], {"reviews": [(3, "approve", {}), (9, "retire", {})]}, "retired"),
    "reopened, it is proposed again": ([0, 1, 2], {"reviews": [(3, "reject", {}), (4, "reopen", {})]}, "proposed"),
    "not seen on sixty days with executions, it retires by itself": ([0, 1, 2], {"active_days": 63}, "retired"),
    "not seen on fifty-nine, it does not": ([0, 1, 2], {"active_days": 62}, "proposed"),
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


@pytest.mark.parametrize(("burst", "state"), [(40, "proposed"), (12, "rejected")])
def test_a_rejected_one_comes_back_whenever_a_week_is_three_times_as_bad(burst, state):
    steady = [failed(day) for day in range(20)]
    worse = [failed(18 + number / 100, number) for number in range(burst)]
    told = one(*steady, *worse, reviews=[(10, "reject", {})])
    assert told["state"] == state
    if state == "proposed":
        assert told["state_since"].date() == at(18).date()
        assert "times a day in the week up to 2026-03-19, before 1.0 times" in told["state_reason"]


def test_a_burst_of_before_its_rejection_does_not_bring_it_back():
    burst = [failed(24 + number / 100, number) for number in range(60)]
    told = one(failed(0), *burst, *(failed(day) for day in (26, 27, 28)), reviews=[(25, "reject", {})])
    assert told["state"] == "rejected"


WORDS = ("the disk is full", "no fuel is left", "a map of the city is bad")
"""Of three failures that are not one."""


def of_three(*reviews, days=((0, 1, 2),) * 3):
    """State, target and reason of three candidates by their number; reviews are (number, day, action, into)."""
    rows = [failed(day, place, WORDS[place]) for place, of_one in enumerate(days) for day in of_one]
    tables = derive_clusters(History(facts(*rows), EXECUTION_COUNTS.to_frame()))
    ids = {facts(failed(0, 0, text))["signature_id"][0]: number for number, text in enumerate(WORDS)}
    names = {number: signature_id for signature_id, number in ids.items()}
    told = [
        {
            "review_id": number,
            "reviewed_at": at(day),
            "reviewed_by": "kim",
            "candidate_id": f"rc_{names[of]}",
            "signature_ids": [names[of]],
            "action": action,
            "merged_into": None if into is None else f"rc_{names[into]}",
            "is_blocking": True,
            "reason": "why",
        }
        for number, (of, day, action, into) in enumerate(reviews)
    ]
    evidence = Evidence(
        facts=facts(*rows),
        clusters=tables[CLUSTERS],
        signatures=tables[CLUSTER_SIGNATURES],
        states=STATES.to_frame(),
        reviews=pl.DataFrame(told, schema=REVIEW),
        covered=frozenset(),
        active_days=[],
        as_of=END,
    )
    return {
        ids[row["cluster_id"]]: (
            row["state"],
            None if row["merged_into"] is None else ids[row["merged_into"].removeprefix("rc_")],
            row["state_reason"],
        )
        for row in derive_candidates(evidence).iter_rows(named=True)
    }


def test_a_merger_leads_to_the_end_of_its_chain():
    told = of_three((2, 3, "approve", None), (0, 4, "merge", 1), (1, 5, "merge", 2))
    assert {number: one[:2] for number, one in told.items()} == {
        0: ("merged", 2),
        1: ("merged", 2),
        2: ("approved", None),
    }


@pytest.mark.parametrize(
    ("reviews", "why"),
    [
        ([(0, 4, "merge", 1), (1, 5, "reject", None)], " is rejected"),
        ([(0, 4, "merge", 1), (1, 5, "retire", None)], " is retired"),
        ([(0, 4, "merge", 1), (1, 5, "merge", 0)], "the mergers from there lead nowhere"),
        ([(0, 4, "merge", 1), (1, 5, "merge", 2), (2, 6, "merge", 1)], "the mergers from there lead nowhere"),
    ],
)
def test_what_was_merged_into_nothing_asks_again_and_says_why(reviews, why):
    state, into, reason = of_three((0, 3, "approve", None), *reviews)[0]
    assert (state, into) == ("proposed", None)
    assert "by kim before (why), but " in reason
    assert reason.endswith(why)


def test_what_was_merged_into_what_no_longer_strikes_asks_again():
    state, _, reason = of_three((0, 4, "merge", 1), days=((0, 1, 2), (0, 1), ()))[0]
    assert (state, reason.endswith("is no candidate any more")) == ("proposed", True)


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


@pytest.fixture
def two_struck(warehouse, prices):
    """Two candidates; returns the warehouse and the ids."""
    for number in range(3):
        rows = [failed(number, number), failed(number, 10 + number, "no fuel is left")]
        publish_derived(enter_day(warehouse, at(number).date(), as_frame(rows, EXECUTION)), warehouse, prices)
    publish_clusters(warehouse)
    return warehouse, publish_candidates(warehouse)["candidate_id"].sort().to_list()


def say(warehouse, candidate_id, action, **given):
    number = review_candidate(warehouse, Review(candidate_id, action, "kim", "why", **given), DEFAULT)
    publish_candidates(warehouse)
    return number


def test_a_merger_by_which_a_test_would_vanish_is_refused(two_struck):
    warehouse, (one, other) = two_struck
    with warehouse.connect() as connection:
        connection.execute(
            "insert into agentmill.failure_cluster_signatures values ('former', %s, null, 0)", [one.removeprefix("rc_")]
        )
    with pytest.raises(ReviewError, match=f"merged into itself: {one} and rc_former are one failure"):
        say(warehouse, one, "merge", merged_into="rc_former")
    say(warehouse, one, "approve")
    with pytest.raises(ReviewError, match=f"rc_former is approved and {other} is not: approve that first"):
        say(warehouse, "rc_former", "merge", merged_into=other)
    say(warehouse, other, "reject")
    with pytest.raises(ReviewError, match=f"{other} is rejected: merge into a candidate that is proposed or approved"):
        say(warehouse, one, "merge", merged_into=other)
    say(warehouse, other, "approve")
    say(warehouse, one, "merge", merged_into=other)
    with pytest.raises(ReviewError, match=f"{one} is merged: merge into"):
        say(warehouse, other, "merge", merged_into=one)
    states = warehouse.read("select candidate_id, state, merged_into from agentmill.regression_candidates order by 1")
    assert states.rows() == [(one, "merged", other), (other, "approved", None)]


def test_a_review_keeps_the_signatures_that_its_failure_has(two_struck):
    warehouse, (one, _) = two_struck
    signature_id = one.removeprefix("rc_")
    with warehouse.connect() as connection:
        connection.execute(
            "insert into agentmill.failure_cluster_signatures values ('zz_former', %s, null, 0)", [signature_id]
        )
    say(warehouse, one, "reject")
    assert read_reviews(warehouse)["signature_ids"].to_list() == [[signature_id, "zz_former"]]


def test_keys_long_numbers_and_names_of_people_are_sanitized(struck):
    candidate = publish_candidates(struck)["candidate_id"][0]
    fixture = {
        "me@example.org": 1,
        "you@example.org": {"card": 4111111111111111, "same": 4111111111111111.0, "sum": 123456789012, "n": 1.5},
        "<email> 2": True,
    }
    review_candidate(struck, Review(candidate, "approve", "kim@example.org", "why", fixture=fixture), DEFAULT)
    ((kept, by),) = struck.read("select fixture::text, reviewed_by from agentmill.candidate_reviews").rows()
    assert by == "<email>"
    assert json.loads(kept) == {
        "<email>": 1,
        "<email> 3": {"card": "<card>", "same": "<card>", "sum": 123456789012, "n": 1.5},
        "<email> 2": True,
    }


def test_what_people_write_is_read_by_nobody_who_may_not_read_texts(struck):
    (candidate,) = publish_candidates(struck)["candidate_id"]
    for action in ("approve", "reopen"):
        review_candidate(
            struck, Review(candidate, action, "kim", "as the quokka said", fixture={"a": "quokka"}), DEFAULT
        )
    decide(struck, candidate.removeprefix("rc_"), "mute", "kim", "for the quokka")
    publish_clusters(struck)
    publish_candidates(struck)
    told = {ANALYST: [], ONCALL: []}
    for role, found in told.items():
        with struck.connect() as connection:
            connection.execute(f"set role {role}")
            for relation in load_dictionary().relations.values():
                for column in relation.columns:
                    place = sql.Identifier(relation.schema, relation.name)
                    question = sql.SQL("select 1 from {} where {}::text like '%quokka%'")
                    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                        if connection.execute(question.format(place, sql.Identifier(column))).fetchall():
                            found.append(f"{relation.name}.{column}")
    assert told[ANALYST] == []
    assert {"regression_candidates.gates", "failure_states.reason"} < {*told[ONCALL]}


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
