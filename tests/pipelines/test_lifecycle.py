import math
import random
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.failures.escalation import DEFAULT_RULES, Expectation, expect, is_escalation, poisson_tail
from pipelines.failures.lifecycle import (
    ACTIVITY,
    DAILY,
    DECISIONS,
    PASSES,
    STATES,
    TRANSITIONS,
    VERSIONS,
    LifeCycleRules,
    derive_states,
)
from pipelines.failures.versions import compare_versions, newest_version

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday


def at(day, hour=12.0):
    return START + timedelta(days=day, hours=hour)


def hit(day, count=1, version="1.0", **overrides):
    """A cell of a day: so many occurrences, a minute apart, from noon on."""
    hour = overrides.pop("hour", 12)
    times = [at(day, hour) + timedelta(minutes=number) for number in range(count)]
    return {
        "cluster_id": "c",
        "environment": "prod",
        "agent_id": "planner",
        "agent_version": version,
        "day": at(day).date(),
        "occurrence_count": count,
        "times": times if count <= 5 else [*times[:3], *times[-2:]],
        **overrides,
    }


def decide(day, action, hour=18.0, **overrides):
    return {
        "effective_at": at(day, hour),
        "decided_by": "ann",
        "cluster_id": "c",
        "action": action,
        "until_escalating": False,
        "reason": "we looked",
        **overrides,
    }


def passed(day, version="1.1", hour=18.0):
    return {"cluster_id": "c", "executed_at": at(day, hour), "agent_version": version}


RELEASES = {"1.0": 0, "1.1": 10, "1.2": 20}


def fold(*hits, days, decisions=(), passes=(), runs=1000, releases=RELEASES, **options):
    """The fold over so many days with executions, unless told otherwise."""
    volume = runs if callable(runs) else lambda _: runs
    places = options.pop("places", ["prod"])
    activity = [
        {"environment": place, "day": at(day).date(), "execution_count": volume(day)}
        for place in places
        for day in range(days)
        if volume(day)
    ]
    known = [
        {"environment": place, "agent_id": "planner", "agent_version": version, "first_day": at(day).date()}
        for place in places
        for version, day in releases.items()
    ]
    numbered = [{"decision_id": number, **one} for number, one in enumerate(decisions, 1)]
    end = max([at(days, 0), *(one["effective_at"] for one in decisions)])
    return derive_states(
        as_frame(list(hits), DAILY),
        as_frame(activity, ACTIVITY),
        as_frame(known, VERSIONS),
        as_frame(numbered, DECISIONS),
        as_frame(list(passes), PASSES),
        end,
        **options,
    )


def only(cycles):
    """The one state there is."""
    (row,) = cycles.states.to_dicts()
    return row


def path(cycles):
    """The states one after the other, each with the day and hour since when."""
    return [
        (row["to_state"], (row["changed_at"] - START).total_seconds() / 86_400) for row in cycles.transitions.to_dicts()
    ]


NOON, SIX = 0.5, 0.75
daily_hits = [hit(day, 2) for day in range(28)]

SCENARIOS = {
    "new for three days of data": ([hit(5)], 8, [], [], [("new", 5 + NOON)]),
    "then ongoing": ([hit(5)], 9, [], [], [("new", 5 + NOON), ("ongoing", 9)]),
    "resolved after fourteen silent days": (
        [hit(0), hit(1)], 16, [], [], [("new", NOON), ("ongoing", 4), ("resolved", 16)],
    ),
    "not after thirteen": ([hit(0), hit(1)], 15, [], [], [("new", NOON), ("ongoing", 4)]),
    "back after silence": (
        [hit(0), hit(20, version="1.2")], 22, [], [],
        [("new", NOON), ("ongoing", 4), ("resolved", 15), ("regressed", 20 + NOON)],
    ),
    "back after silence in an old version": (
        [hit(0), hit(20)], 22, [], [],
        [("new", NOON), ("ongoing", 4), ("resolved", 15), ("suspected", 20 + NOON)],
    ),
    "resolved by a person": ([hit(0)], 2, [decide(1, "resolve")], [], [("new", NOON), ("resolved", 1 + SIX)]),
    "back in the version that has the fix": (
        [hit(0), hit(11, version="1.1")], 12, [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("regressed", 11 + NOON)],
    ),
    "seen in a version before the fix": (
        [hit(0), hit(11, version="1.0")], 12, [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("suspected", 11 + NOON)],
    ),
    "an old version first, then the fixed one": (
        [hit(0), hit(11), hit(12, version="1.2")], 13, [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("suspected", 11 + NOON), ("regressed", 12 + NOON)],
    ),
    "an old version that dies out, until that of the fix has it": (
        [hit(0), hit(11), hit(30, version="1.1")], 31, [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("suspected", 11 + NOON), ("resolved", 26), ("regressed", 30 + NOON)],
    ),
    "an old version that escalates": (
        [hit(0), *(hit(day) for day in range(11, 16)), hit(16, 20)], 17,
        [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("suspected", 11 + NOON), ("escalating", 17)],
    ),
    "an old version that dies out": (
        [hit(0), hit(11)], 26, [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("suspected", 11 + NOON), ("resolved", 26)],
    ),
    "back in a version that nobody told": (
        [hit(0, version=None), hit(11, version=None)], 12, [decide(1, "resolve", fixed_in_version="1.1")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("regressed", 11 + NOON)],
    ),
    "regressed for fourteen days": (
        [hit(0), *(hit(day) for day in range(2, 30, 3))], 30, [decide(1, "resolve")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("regressed", 2 + NOON), ("ongoing", 17)],
    ),
    "resolved before the last of that day": (
        [hit(0), hit(1, hour=19)], 2, [decide(1, "resolve")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("regressed", 1 + 19 / 24)],
    ),
    "resolved at the moment of the last": (
        [hit(0), hit(1, hour=18)], 2, [decide(1, "resolve")], [], [("new", NOON), ("resolved", 1 + SIX)],
    ),
    "resolved among many of a day": (
        [hit(0), hit(1, 8, hour=18)], 2, [decide(1, "resolve", 18 + 5.5 / 60)], [],
        [("new", NOON), ("resolved", 1 + SIX + 5.5 / 1440), ("regressed", 1 + SIX + 6 / 1440)],
    ),
    "reopened": (
        [hit(0)], 14, [decide(1, "resolve"), decide(2, "reopen")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("ongoing", 2 + SIX)],
    ),
    "reopened, and silent from then on": (
        [hit(0)], 17, [decide(1, "resolve"), decide(2, "reopen")], [],
        [("new", NOON), ("resolved", 1 + SIX), ("ongoing", 2 + SIX), ("resolved", 17)],
    ),
    "resolved by its test": ([hit(0)], 2, [], [passed(1)], [("new", NOON), ("resolved", 1 + SIX)]),
    "its test passed and it came back": (
        [hit(0), hit(11, version="1.1")], 12, [], [passed(1)],
        [("new", NOON), ("resolved", 1 + SIX), ("regressed", 11 + NOON)],
    ),
    "a test that passed in vain resolves no more": (
        [hit(day, version="1.1") for day in range(10, 14)], 14, [], [passed(day) for day in range(10, 14)],
        [("new", 10 + NOON), ("resolved", 10 + SIX), ("regressed", 11 + NOON)],
    ),
    "unless in a later version": (
        [hit(10, version="1.1"), hit(11, version="1.1")], 22, [], [passed(10), passed(11), passed(21, "1.2")],
        [("new", 10 + NOON), ("resolved", 10 + SIX), ("regressed", 11 + NOON), ("resolved", 21 + SIX)],
    ),
    "muted for good": (
        [hit(0), hit(20)], 22, [decide(1, "mute")], [], [("new", NOON), ("muted", 1 + SIX)],
    ),
    "muted until a day": (
        [hit(0), hit(2)], 8, [decide(1, "mute", muted_until=at(5, 0))], [],
        [("new", NOON), ("muted", 1 + SIX), ("ongoing", 5)],
    ),
    "unmuted": (
        [hit(0)], 3, [decide(1, "mute"), decide(2, "unmute")], [],
        [("new", NOON), ("muted", 1 + SIX), ("new", 2 + SIX)],
    ),
    "escalating and calm again": (
        [*daily_hits, hit(28, 12), hit(29, 2)], 30, [], [],
        [("new", NOON), ("ongoing", 4), ("escalating", 29), ("ongoing", 30)],
    ),
    "calm again without any": (
        [*daily_hits, hit(28, 12)], 30, [], [],
        [("new", NOON), ("ongoing", 4), ("escalating", 29), ("ongoing", 30)],
    ),
    "muted until it escalates": (
        [*daily_hits, hit(28, 12)], 29, [decide(20, "mute", until_escalating=True)], [],
        [("new", NOON), ("ongoing", 4), ("muted", 20 + SIX), ("escalating", 29)],
    ),
    "muted in the middle of an escalation, until the next one": (
        [*daily_hits, hit(28, 12), hit(29, 12), hit(30, 2), hit(31, 12)], 32,
        [decide(29, "mute", until_escalating=True)], [],
        [("new", NOON), ("ongoing", 4), ("escalating", 29), ("muted", 29 + SIX), ("escalating", 32)],
    ),
    "resolved in the middle of an escalation": (
        [*daily_hits, hit(28, 12)], 29, [decide(28, "resolve")], [],
        [("new", NOON), ("ongoing", 4), ("resolved", 28 + SIX)],
    ),
    "fixed before it was ever seen there": (
        [hit(11, version="1.1")], 12, [decide(1, "resolve")], [], [("regressed", 11 + NOON)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_life_goes_through_the_states_that_its_facts_make(name):
    hits, days, decisions, passes, expected = SCENARIOS[name]
    cycles = fold(*hits, days=days, decisions=decisions, passes=passes)
    assert [(state, round(day, 6)) for state, day in path(cycles)] == [
        (state, round(day, 6)) for state, day in expected
    ]
    assert only(cycles)["state"] == expected[-1][0]


def test_the_state_tells_what_it_rests_on():
    cycles = fold(*daily_hits, hit(28, 12), days=29, runs=lambda day: 1204 if day == 28 else 1000)
    assert only(cycles) == {
        "cluster_id": "c",
        "environment": "prod",
        "state": "escalating",
        "activity": "escalating",
        "since": at(29, 0),
        "reason": "12 occurrences on 2026-02-02 where 2.4 were expected from 1,204 runs",
        "first_seen_at": at(0),
        "last_seen_at": at(28, 12) + timedelta(minutes=11),
        "occurrence_count": 68,
        "last_day_count": 12,
        "expected_day_count": pytest.approx(2 * 1.204),
        "silent_days": 0,
        "resolved_at": None,
        "resolved_in_version": None,
        "muted_until": None,
    }
    assert (cycles.states.schema, cycles.transitions.schema) == (STATES, TRANSITIONS)
    assert cycles.transitions["ordinal"].to_list() == [1, 2, 3]
    assert cycles.transitions["from_state"].to_list() == [None, "new", "ongoing"]


def test_every_change_has_a_sentence_for_the_person_on_call():
    decisions = [
        decide(1, "resolve", fixed_in_version="1.1"),
        decide(13, "mute", muted_until=at(14, 0)),
        decide(15, "unmute"),
        decide(16, "mute", until_escalating=True),
        decide(17, "unmute"),
    ]
    cycles = fold(hit(0), hit(11), hit(12, version="1.2"), days=50, decisions=decisions)
    assert cycles.transitions["reason"].to_list() == [
        "first seen in version 1.0",
        "resolved in version 1.1 by ann: we looked",
        "seen again in version 1.0, which is older than 1.1, where it was resolved: an old deployment may still run",
        "seen again in version 1.2 after it was resolved on 2026-01-06 in version 1.1",
        "muted until 2026-01-19 00:00 UTC by ann: we looked",
        "it was muted until 2026-01-19 00:00 UTC",
        "muted until it escalates by ann: we looked",
        "unmuted by ann: we looked",
        "none in 14 days with executions, last on 2026-01-17",
    ]


def test_a_mute_hides_the_state_and_keeps_the_activity():
    row = only(fold(hit(0), hit(20, version="1.2"), days=22, decisions=[decide(1, "mute", muted_until=at(40, 0))]))
    assert (row["state"], row["activity"], row["muted_until"]) == ("muted", "regressed", at(40, 0))


def test_silence_resolves_in_the_newest_version_that_its_agents_had_by_then():
    assert only(fold(hit(0), days=15))["resolved_in_version"] == "1.1"
    assert only(fold(hit(0), days=15, releases={}))["resolved_in_version"] is None
    row = only(fold(hit(0), days=12, decisions=[decide(11, "resolve", fixed_in_version="2.0")]))
    assert (row["resolved_in_version"], row["resolved_at"]) == ("2.0", at(11, 18))
    row = only(fold(hit(0), days=17, decisions=[decide(16, "resolve", fixed_in_version="2.0")]))
    assert (row["resolved_in_version"], row["resolved_at"]) == ("2.0", at(15, 0)), "a person knows the version later"


def test_days_without_executions_are_not_silence():
    row = only(fold(hit(0), days=30, runs=lambda day: 0 if 5 <= day < 28 else 1000))
    assert (row["state"], row["silent_days"]) == ("ongoing", 6)


def test_the_last_decision_of_a_moment_counts():
    both = [decide(1, "resolve"), decide(1, "reopen")]
    assert only(fold(hit(0), days=2, decisions=both))["state"] == "ongoing"
    assert only(fold(hit(0), days=2, decisions=both[::-1]))["state"] == "resolved"
    entered = [{**one, "decision_id": number} for number, one in zip((2, 1), both, strict=True)]
    assert only(fold(hit(0), days=2, decisions=entered))["state"] == "resolved", "their order is that of their numbers"


def test_a_decision_is_about_its_environment_or_about_all():
    hits = [hit(0), hit(0, environment="test"), hit(0, environment=None)]
    places = ["prod", "test", None]
    for place, expected in {"test": ["new", "new", "resolved"], None: ["resolved"] * 3}.items():
        cycles = fold(*hits, days=2, places=places, decisions=[decide(1, "resolve", environment=place)])
        assert cycles.states["environment"].to_list() == [None, "prod", "test"]
        assert cycles.states["state"].to_list() == expected


def test_a_test_that_passes_elsewhere_in_time_is_followed_by_the_data():
    cycles = fold(hit(0), days=2, passes=[passed(5, "1.1")])
    row = only(cycles)
    assert (row["state"], row["resolved_in_version"]) == ("resolved", "1.1")
    assert row["reason"] == "its regression test passed in version 1.1"


def test_nothing_gives_nothing():
    cycles = fold(days=3, decisions=[decide(1, "mute")], passes=[passed(1)])
    assert (cycles.states.shape, cycles.transitions.shape) == ((0, len(STATES)), (0, len(TRANSITIONS)))


# Escalation.


def test_the_season_of_a_week_is_no_escalation():
    def runs(day):
        return 100 if day % 7 in {5, 6} else 2000

    hits = [hit(day, 1 if day % 7 in {5, 6} else 20) for day in range(35)]
    assert "escalating" not in [state for state, _ in path(fold(*hits, days=35, runs=runs))]
    # A Saturday with as many as on a working day is one.
    assert only(fold(*hits[:33], hit(33, 20), days=34, runs=runs))["state"] == "escalating"


def test_what_is_special_about_a_weekday_is_expected_of_it():
    hits = [hit(day, 30 if day % 7 == 0 else 3) for day in range(36)]
    states = [state for state, day in path(fold(*hits, days=36)) if day > 28]
    assert states == []
    tuesday = [*hits, hit(36, 30)]
    assert only(fold(*tuesday, days=37))["state"] == "escalating"


def test_a_failure_that_comes_in_bursts_does_not_escalate_with_each():
    bursts = [0, 4, 10, 12, 19, 23, 29, 37, 41, 45, 50, 59]
    hits = [hit(day, 9) for day in bursts]
    assert [state for state, _ in path(fold(*hits, days=60))] == ["new", "ongoing"]
    assert only(fold(*hits, hit(60, 90), days=61))["state"] == "escalating"


def test_days_that_scatter_need_more_to_be_an_escalation():
    noisy = [hit(day, 14 if day % 2 else 1) for day in range(28)]
    even = [hit(day, 7) for day in range(28)]
    assert only(fold(*even, hit(28, 20), days=29))["state"] == "escalating"
    assert only(fold(*noisy, hit(28, 20), days=29))["state"] == "ongoing"


def test_an_incident_is_not_the_norm_within_its_week_and_a_lasting_level_is_later():
    hits = [*daily_hits, *(hit(day, 40) for day in range(28, 60))]
    changes = path(fold(*hits, days=60))
    assert [state for state, _ in changes] == ["new", "ongoing", "escalating", "ongoing"]
    assert changes[2][1] == 29
    assert 29 + 7 < changes[3][1] <= 29 + 21


def test_an_incident_does_not_hide_the_next_one():
    hits = [*daily_hits, hit(28, 40), *(hit(day, 2) for day in range(29, 42)), hit(42, 40)]
    assert [state for state, _ in path(fold(*hits, days=43))] == [
        *("new", "ongoing", "escalating", "ongoing", "escalating")
    ]


def test_a_new_or_regressed_failure_is_compared_with_its_days_since_then():
    assert [state for state, _ in path(fold(*(hit(day, 50) for day in range(20, 40)), days=40))] == ["new", "ongoing"]
    back = [hit(0), *(hit(day, 50, version="1.2") for day in range(20, 23)), hit(23, 400, version="1.2")]
    row = only(fold(*back[:-1], days=23))
    assert (row["state"], row["expected_day_count"]) == ("regressed", None)
    assert only(fold(*back, days=24))["state"] == "escalating"


@pytest.mark.parametrize(("count", "mean"), [(5, 0.7), (12, 2.1), (30, 11.0), (1, 0.01), (3, 9.0)])
def test_the_tail_is_that_of_poisson(count, mean):
    below = sum(math.exp(-mean) * mean**number / math.factorial(number) for number in range(count))
    assert poisson_tail(count, mean) == pytest.approx(1 - below, rel=1e-9)


def test_few_or_not_twice_as_many_are_no_escalation():
    assert is_escalation(5, Expectation(0.1), DEFAULT_RULES)
    assert not is_escalation(4, Expectation(0.1), DEFAULT_RULES)
    assert not is_escalation(199, Expectation(100), DEFAULT_RULES)
    assert is_escalation(200, Expectation(100), DEFAULT_RULES)
    scattered = Expectation(100, [(10, 100), (200, 100), (90, 100)])
    assert scattered.dispersion == (90**2 + 100**2 + 10**2) / 100 / 2
    assert not is_escalation(200, scattered, DEFAULT_RULES)


def test_an_expectation_needs_three_days():
    runs = dict.fromkeys(range(100, 110), 10)
    assert expect(105, 102, {103: 6}, runs, set(), DEFAULT_RULES).count == 2
    assert expect(105, 103, {103: 6}, runs, set(), DEFAULT_RULES) is None
    assert expect(105, 102, {103: 6}, runs, {104}, DEFAULT_RULES) is None
    assert expect(110, 102, {103: 6}, runs, set(), DEFAULT_RULES) is None, "nothing ran that day"


def test_the_numbers_of_the_rules_are_what_decides():
    rules = LifeCycleRules(new_days=1, silent_days=3)
    assert path(fold(hit(0), days=5, rules=rules)) == [("new", 0.5), ("ongoing", 2), ("resolved", 4)]


# Versions.


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("1.9", "1.10"),
        ("v1.2.3", "1.2.4"),
        ("1.0.0-rc.2", "1.0.0-rc.10"),
        ("1.0.0-rc.1", "1.0.0"),
        ("1.0a1", "1.0b1"),
        ("1.0b2", "1.0rc1"),
        ("1.0.dev3", "1.0a1"),
        ("1.0.0-alpha", "1.0.0-alpha.1"),
        ("1.0", "1.0.1-rc1"),
        ("2026-03-09", "2026-03-10"),
    ],
)
def test_versions_have_their_natural_order(earlier, later):
    assert compare_versions(earlier, later, {}) == -1
    assert compare_versions(later, earlier, {}) == 1


def test_versions_that_are_the_same_or_cannot_be_compared():
    assert compare_versions("v1.2", "1.2.0+build7", {}) == 0
    assert compare_versions("deadbeef", "deadbeef", {}) == 0
    assert compare_versions("deadbeef", "1.2", {}) is None
    days = {"deadbeef": date(2026, 1, 2), "cafe": date(2026, 1, 1), "nightly": date(2026, 1, 2)}
    assert compare_versions("cafe", "deadbeef", days) == -1
    assert compare_versions("deadbeef", "cafe", days) == 1
    assert compare_versions("nightly", "deadbeef", days) is None


def test_the_newest_version_is_the_latest_seen_by_then():
    days = {"1.10": date(2026, 1, 1), "1.9": date(2026, 1, 2), "2.0": date(2026, 1, 9)}
    assert newest_version(days, date(2026, 1, 3)) == "1.10"
    assert newest_version(days, date(2026, 1, 9)) == "2.0"
    assert newest_version(days, date(2025, 1, 1)) is None


# What holds for any facts.

DAYS = 40
an_hour = st.floats(0, 23.99).map(lambda hour: round(hour, 3))
an_occurrence = st.tuples(st.integers(0, DAYS - 1), an_hour, st.sampled_from(["1.0", "1.1", "1.2", "sha", None]))
occurrences = st.lists(an_occurrence, min_size=1, max_size=40)
a_decision = st.builds(
    lambda day, hour, action, version, mute: decide(
        day,
        action,
        hour,
        **({"fixed_in_version": version} if action == "resolve" else mute if action == "mute" else {}),
    ),
    st.integers(0, DAYS - 1),
    an_hour,
    st.sampled_from(["resolve", "reopen", "mute", "unmute"]),
    st.sampled_from(["1.1", None]),
    st.sampled_from([{}, {"until_escalating": True}, {"muted_until": at(30, 0)}]),
)
decided = st.lists(a_decision, max_size=4)
passing = st.lists(st.builds(passed, st.integers(0, DAYS - 1), st.sampled_from(["1.1", "1.2", None])), max_size=3)
alive = st.sets(st.integers(0, DAYS - 1), max_size=15)


def cells(happened, part=lambda _: 0, cluster=lambda _: "c"):
    """The facts of occurrences, as days tell them: one cell per version, or several where `part` divides them."""
    found = {}
    for number, (day, hour, version) in enumerate(happened):
        found.setdefault((day, version, part(number), cluster(number)), []).append(at(day, hour))
    return [
        hit(
            day,
            version=version,
            cluster_id=cluster_id,
            occurrence_count=len(times),
            times=sorted(times) if len(times) <= 5 else [*sorted(times)[:3], *sorted(times)[-2:]],
        )
        for (day, version, _, cluster_id), times in found.items()
    ]


def same(one, other):
    assert_frame_equal(one.states, other.states)
    assert_frame_equal(one.transitions, other.transitions)


def folded(facts, decisions=(), passes=(), quiet=frozenset()):
    rules = LifeCycleRules(silent_days=6, regressed_days=4)  # so that short histories see every state
    return fold(
        *facts,
        days=DAYS,
        decisions=decisions,
        passes=passes,
        rules=rules,
        runs=lambda day: 0 if day in quiet else 500 + 10 * (day % 7),
    )


@given(occurrences, decided, passing, alive, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(happened, decisions, passes, quiet, shuffle):
    facts = cells(happened)
    once = folded(facts, decisions, passes, quiet)
    shuffled = [*facts]
    shuffle.shuffle(shuffled)
    same(folded(shuffled, decisions, shuffle.sample(passes, len(passes)), quiet), once)
    same(folded(facts, decisions, passes, quiet), once)


@given(occurrences, decided, passing, st.integers(2, 4))
def test_how_a_day_is_divided_into_parts_does_not_matter(happened, decisions, passes, parts):
    crowded = [
        *happened,
        *((day, (hour + 0.01 * n) % 24, version) for day, hour, version in happened[:3] for n in range(9)),
    ]
    divided = cells(crowded, part=lambda number: random.Random(number).randrange(parts))
    same(folded(divided, decisions, passes), folded(cells(crowded), decisions, passes))


@given(occurrences, occurrences, decided, passing)
def test_a_backfill_gives_what_everything_at_once_gives(first, late, decisions, passes):
    together = folded(cells([*first, *late]), decisions, passes)
    same(folded([*cells(first), *cells(late)], decisions, passes), together)
    same(folded([*cells(late), *cells(first)], decisions, passes), together)


@given(occurrences, occurrences, decided, passing)
def test_what_happened_before_a_resolution_never_brings_it_back(happened, late, decisions, passes):
    # The decision comes last; what is late happened before it.
    final = decide(DAYS - 10, "resolve", 12)
    before = [one for one in happened if at(*one[:2]) < final["effective_at"]] or [(0, 1.0, None)]
    earlier = [one for one in late if at(*one[:2]) < final["effective_at"]]
    decisions = [one for one in decisions if one["action"] != "reopen" or one["effective_at"] < final["effective_at"]]
    row = only(folded(cells([*before, *earlier]), [*decisions, final], passes))
    assert row["activity"] == "resolved"
    assert row["occurrence_count"] == len(before) + len(earlier)
    assert row["first_seen_at"] == min(at(*one[:2]) for one in [*before, *earlier])


@given(occurrences, decided, passing, alive)
def test_nothing_is_known_to_have_happened_after_a_resolution_that_holds(happened, decisions, passes, quiet):
    row = only(folded(cells(happened), decisions, passes, quiet))
    if row["activity"] == "resolved":
        assert row["resolved_at"] >= row["last_seen_at"]
    else:
        assert row["state"] == "muted" or row["state"] == row["activity"]


@given(occurrences, decided, passing, alive)
def test_transitions_lead_from_one_to_the_next_and_end_in_the_state(happened, decisions, passes, quiet):
    cycles = folded(cells(happened), decisions, passes, quiet)
    row, steps = only(cycles), cycles.transitions
    assert steps["from_state"].to_list() == [None, *steps["to_state"].to_list()[:-1]]
    assert steps["ordinal"].to_list() == list(range(1, steps.height + 1))
    assert steps["changed_at"].is_sorted()
    assert (steps["to_state"][-1], steps["changed_at"][-1]) == (row["state"], row["since"])
    assert all(one != other for one, other in zip(steps["from_state"], steps["to_state"], strict=True))


@given(occurrences, decided, passing)
def test_two_clusters_that_became_one_live_as_one(happened, decisions, passes):
    apart = cells(happened, cluster=lambda number: "c" if number % 3 else "d")
    merged = pl.DataFrame(apart, DAILY).with_columns(cluster_id=pl.lit("c")).to_dicts()
    same(folded(merged, decisions, passes), folded(cells(happened), decisions, passes))


def test_a_fix_is_dated_by_the_versions_of_its_own_environment():
    """In production 1.0 runs all the time; that 1.1 runs elsewhere is no fix here."""
    hits = [hit(0), hit(20)]
    elsewhere = {"environment": "test", "agent_id": "planner", "agent_version": "1.1", "first_day": at(5).date()}
    here = {**elsewhere, "environment": "prod", "agent_version": "1.0", "first_day": at(0).date()}
    activity = [{"environment": "prod", "day": at(day).date(), "execution_count": 9} for day in range(22)]
    told = derive_states(
        as_frame(hits, DAILY),
        as_frame(activity, ACTIVITY),
        as_frame([here, elsewhere], VERSIONS),
        as_frame([{"decision_id": 1, **decide(10, "resolve")}], DECISIONS),
        PASSES.to_frame(),
        at(22),
    )
    assert only(told)["state"] == "regressed"


def test_a_day_that_goes_on_is_not_judged():
    """Yesterday was too much; of today there is an hour, in which it did not happen yet."""
    hits = [*daily_hits, hit(28, 40)]
    activity = [{"environment": "prod", "day": at(day).date(), "execution_count": 1000} for day in range(30)]
    frames = (as_frame(hits, DAILY), as_frame(activity, ACTIVITY), VERSIONS.to_frame(), DECISIONS.to_frame())
    assert only(derive_states(*frames, PASSES.to_frame(), at(29, 1)))["state"] == "escalating"
    assert only(derive_states(*frames, PASSES.to_frame(), at(30)))["state"] == "ongoing"


def test_failures_of_before_environments_were_told_live_in_all_of_them():
    activity = [{"environment": "prod", "day": at(day).date(), "execution_count": 9} for day in range(20)]
    told = derive_states(
        as_frame([hit(0, environment=None)], DAILY),
        as_frame(activity, ACTIVITY),
        VERSIONS.to_frame(),
        DECISIONS.to_frame(),
        PASSES.to_frame(),
        at(20),
    )
    assert only(told)["state"] == "resolved"
