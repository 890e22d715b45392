from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION
from pipelines.failures import EXECUTION_COUNTS, signature_facts
from pipelines.failures.differences import DIFFERENCES, find_differences
from pipelines.failures.summary import trend_of

DAY = date(2026, 3, 10)
BLANK = {name: None for name in EXECUTION_COUNTS.names() if name not in {"day", "execution_count"}}


def failed(count, day=DAY, **where):
    noon = datetime.combine(day, datetime.min.time(), tzinfo=UTC) + timedelta(hours=12)
    return [
        {
            "source": "app",
            "execution_id": f"{day}-{n}-{sorted(where.items())}",
            "row_hash": "0",
            "agent_id": "a",
            "agent_name": "a",
            "status": "failed",
            "error_message": "the disk is full",
            "event_time": noon + timedelta(seconds=n),
            "cost_source": "unpriced",
            "quality_flags": [],
            **where,
        }
        for n in range(count)
    ]


def runs(count, day=DAY, **where):
    return {"day": day, **BLANK, "agent_id": "a", **where, "execution_count": count}


def differences(failures, executions):
    facts = signature_facts(as_frame(failures, EXECUTION))
    members = facts.select("signature_id", cluster_id=pl.col("signature_id")).unique()
    return find_differences(facts, members, pl.DataFrame(executions, schema=EXECUTION_COUNTS))


def told(*found):
    rows = differences(*found)
    return rows.select("dimension", "value", "agent_id", "occurrence_count", "execution_count").rows()


def test_the_value_it_happens_with_is_named_first():
    failures = [*failed(60, provider="x", model="m"), *failed(2, provider="y", model="n")]
    executions = [
        runs(100, provider="x", model="m"),
        runs(100, provider="x", model="o"),
        runs(1000, provider="y", model="n"),
    ]
    assert told(failures, executions) == [("model", "m", None, 60, 100)]


def test_what_goes_together_with_a_value_is_not_told_again_and_what_does_not_is():
    failures = [*failed(40, provider="x", model="m"), *failed(40, provider="x", model="n"), *failed(9, environment="e")]
    executions = [
        runs(100, provider="x", model="m"),
        runs(100, provider="x", model="n"),
        runs(50, environment="e"),
        runs(1000, provider="y", model="o"),
    ]
    assert told(failures, executions) == [("provider", "x", None, 80, 200), ("environment", "e", None, 9, 50)]


def test_the_lift_is_the_ratio_of_rates_and_its_interval_holds_it():
    row = differences([*failed(50, model="m"), *failed(10, model="n")], [runs(100, model="m"), runs(200, model="n")])
    row = row.row(0, named=True)
    assert (row["failure_rate"], row["other_rate"]) == (0.5, 0.05)
    assert row["lift"] == pytest.approx((50.5 / 100.5) / (10.5 / 200.5))
    assert row["lift_low"] == pytest.approx(5.161, abs=0.001)
    assert row["lift_high"] == pytest.approx(17.838, abs=0.001)
    assert row["adjusted_p_value"] < 1e-12


def test_a_version_is_compared_with_the_other_versions_of_its_agent():
    failures = failed(30, agent_version="2")
    executions = [runs(50, agent_version="2"), runs(50, agent_version="1"), runs(9000, agent_id="b", agent_version="7")]
    found = differences(failures, executions)
    version = found.row(0, named=True)
    assert (version["dimension"], version["value"], version["agent_id"]) == ("agent_version", "2", "a")
    assert (version["failure_rate"], version["other_rate"]) == (0.6, 0)
    assert found.height == 1


def test_the_only_version_of_an_agent_is_told_as_the_agent():
    executions = [runs(50, agent_version="2"), runs(9000, agent_id="b", agent_version="7")]
    assert told(failed(30, agent_version="2"), executions) == [("agent_id", "a", None, 30, 50)]


def test_only_days_between_the_first_and_the_last_occurrence_count():
    later = DAY + timedelta(days=2)
    executions = [
        runs(10, DAY - timedelta(days=1), model="m"),
        *(runs(20, DAY + timedelta(days=n), model="m") for n in range(3)),
        runs(5000, DAY, model="n"),
        runs(10, later + timedelta(days=1), model="m"),
    ]
    assert told([*failed(9, model="m"), *failed(9, later, model="m")], executions) == [("model", "m", None, 18, 60)]


def test_chance_is_no_difference():
    failures = [*failed(5, model="m"), *failed(4, model="n")]
    assert told(failures, [runs(100, model="m"), runs(100, model="n")]) == []


def test_two_occurrences_are_too_few_to_tell():
    assert told(failed(2, model="m"), [runs(2, model="m"), runs(100_000, model="n")]) == []


def test_what_always_happens_is_no_difference():
    assert told(failed(40, model="m"), [runs(100, model="m")]) == []


def test_many_comparisons_ask_for_more():
    """One of twenty equal models has a bit more by chance: alone it would tell, among all it does not."""
    failures = [row for n in range(20) for row in failed(12 if n == 0 else 5, model=f"m{n:02}")]
    executions = [runs(100, model=f"m{n:02}") for n in range(20)]
    assert told(failures, executions) == []
    assert [row[1] for row in told(failures[:17], [runs(100, model="m00"), runs(300, model="m01")])] == ["m00"]


def test_no_failures_have_no_differences():
    assert differences([], [runs(5)]).schema == DIFFERENCES


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=12), st.data()
)
def test_the_order_of_rows_does_not_matter(drawn, data):
    failures = [
        row
        for n, (day, model, count) in enumerate(drawn)
        for row in failed(count, DAY + timedelta(days=day), model=f"m{model}", agent_version=f"{n}")
    ]
    executions = [
        runs(count + 5, DAY + timedelta(days=day), model=f"m{model}", agent_version=f"{n}")
        for n, (day, model, count) in enumerate(drawn)
    ]
    once = differences(failures, executions)
    again = differences(data.draw(st.permutations(failures)), data.draw(st.permutations(executions)))
    assert once.equals(again)
    assert (once["occurrence_count"] <= once["execution_count"]).all()


@pytest.mark.parametrize(
    ("now", "before", "runs_now", "runs_before", "trend"),
    [
        (30, 5, 1000, 1000, "rising"),
        (5, 30, 1000, 1000, "falling"),
        (12, 10, 1000, 1000, "steady"),
        (30, 5, 6000, 1000, "steady"),
        (3, 0, 1000, 1000, "steady"),
        (0, 9, 1000, 1000, "falling"),
        (9, 0, 1000, 0, "unknown"),
        (0, 0, 10, 10, "steady"),
    ],
)
def test_a_trend_is_more_than_chance_and_traffic(now, before, runs_now, runs_before, trend):
    assert trend_of(now, before, runs_now, runs_before) == trend
