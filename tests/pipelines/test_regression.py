import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame, enter_day
from hypothesis import given
from hypothesis import strategies as st

from pipelines.execution import EXECUTION
from pipelines.failures import signature_facts
from pipelines.publication import publish_derived
from pipelines.regression import CANDIDATE, derive_candidates, publish_candidates
from pipelines.regression.strikes import STRIKES, WINDOW, find_strike

START = datetime(2026, 3, 1, tzinfo=UTC)


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


@given(st.lists(st.integers(0, 60 * 24 * 12), min_size=1, max_size=40))
def test_daily_facts_are_enough_to_find_the_strike(minutes):
    rows = [failed(minute / 1440, number) for number, minute in enumerate(minutes)]
    expected = find_strike([row["event_time"] for row in rows])
    told = derive_candidates(facts(*rows))
    assert told["struck_at"].to_list() == ([] if expected is None else [expected.struck_at])


def test_a_candidate_says_when_how_often_and_shows_evidence():
    told = derive_candidates(facts(failed(0, 1), failed(2, 2), failed(2, 3), failed(40, 4))).row(0, named=True)
    assert (told["window_started_at"], told["struck_at"]) == (at(0), at(2))
    assert told["window_occurrence_count"] == 3
    assert told["kind"] == "behaviour"
    assert told["state"] == "proposed"
    assert json.loads(told["gates"]) == {"has_evidence": True}
    assert told["evidence_execution_ids"]


def test_the_same_type_with_another_message_is_another_failure():
    rows = [
        failed(day, day, f"{word}", error_type="Boom")
        for day, word in enumerate(("disk is full", "no fuel", "bad map"))
    ]
    assert derive_candidates(facts(*rows)).height == 0


def test_a_providers_failure_asks_for_resilience():
    rows = [failed(day, day, "HTTP 429 too many requests") for day in range(3)]
    assert derive_candidates(facts(*rows))["kind"].to_list() == ["resilience"]


def test_a_late_third_strike_makes_the_candidate():
    daily = [facts(failed(day, day)) for day in (0, 4, 2)]
    assert derive_candidates(pl.concat(daily[:2])).height == 0
    assert derive_candidates(pl.concat(daily)).equals(derive_candidates(pl.concat(daily[::-1])))
    assert derive_candidates(pl.concat(daily)).height == 1


def test_no_facts_make_no_candidates():
    told = derive_candidates(facts())
    assert told.schema == CANDIDATE
    assert told.height == 0


def test_running_again_doubles_nothing(warehouse, prices):
    for number in range(3):
        day = at(number).date()
        rows = as_frame([failed(number, number)], EXECUTION)
        publish_derived(enter_day(warehouse, day, rows), warehouse, prices)
    once = publish_candidates(warehouse)
    assert publish_candidates(warehouse).equals(once)
    assert warehouse.read("select candidate_id from agentmill.regression_candidates").rows() == [
        (once["candidate_id"][0],)
    ]
