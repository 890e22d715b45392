from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from conftest import DAY, as_frame, enter_day
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION, FAILURES, STATUSES
from pipelines.failures import categorize_failures
from pipelines.pricing.book import load_prices
from pipelines.publication import publish_derived
from pipelines.rollup import (
    AGENT_DAILY,
    AGENT_HOURLY,
    CUBE,
    MODEL_DAILY,
    TABLES,
    USER_DAILY,
    compute,
    judge,
)
from pipelines.warehouse.ledger import BusyError, Load
from pipelines.warehouse.publish import publish_partition

PRICES = load_prices()
MIDNIGHT = datetime.combine(DAY, datetime.min.time(), tzinfo=UTC)


def ran(minutes=0, **overrides):
    return {
        "source": "app",
        "execution_id": f"r{minutes}",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "planner",
        "status": "success",
        "event_time": MIDNIGHT + timedelta(minutes=minutes),
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def tables(*rows):
    return compute(as_frame(list(rows), EXECUTION).sort("event_time"), categorize_failures, PRICES)


def daily(*rows):
    return tables(*rows)[AGENT_DAILY].row(0, named=True)


def test_counts_rates_and_users_of_a_day():
    told = daily(
        ran(1, user_key="u1"),
        ran(2, user_key="u1", status="partial"),
        ran(3, user_key="u2", status="failed"),
        ran(4, status="timeout"),
        ran(5, status="cancelled"),
        ran(6),
    )
    assert (told["execution_count"], told["success_count"], told["failure_count"]) == (6, 2, 2)
    assert told["success_rate"] == pytest.approx(2 / 6)
    assert told["success_rate_with_partial"] == pytest.approx(3 / 6)
    assert (told["user_count"], told["identified_count"]) == (2, 3)


def test_unknown_cost_is_null_and_never_zero():
    told = daily(ran(1), ran(2))
    assert told["cost_usd"] is None
    assert (told["priced_count"], told["unpriced_count"]) == (0, 2)
    told = daily(ran(1, cost_usd=Decimal("0.10"), cost_source="provided"), ran(2))
    assert told["cost_usd"] == Decimal("0.1")
    assert (told["priced_count"], told["unpriced_count"]) == (1, 1)


def test_money_adds_up_exactly():
    told = daily(*(ran(n, cost_usd=Decimal("0.1"), cost_source="provided") for n in range(1000)))
    assert told["cost_usd"] == Decimal(100)


@pytest.mark.parametrize(
    ("count", "known"), [(0, []), (1, [50]), (19, [50]), (20, [50, 95]), (99, [50, 95]), (100, [50, 95, 99])]
)
def test_a_percentile_is_told_only_from_enough_executions(count, known):
    told = daily(ran(0), *(ran(n, duration_ms=n) for n in range(1, count + 1)))
    assert told["duration_count"] == count
    assert [percent for percent in (50, 95, 99) if told[f"duration_p{percent}_ms"] is not None] == known
    assert (told["duration_avg_ms"] is None) == (count == 0)


def test_executions_without_a_duration_count_in_volume_only():
    told = daily(ran(1, duration_ms=100), ran(2))
    assert (told["execution_count"], told["duration_count"], told["duration_avg_ms"]) == (2, 1, 100)


def test_an_unknown_model_is_a_row_of_its_own():
    models = tables(ran(1, model="m", provider="p"), ran(2))[MODEL_DAILY]
    assert models.select("provider", "model", "execution_count").rows() == [("p", "m", 1), (None, None, 1)]


def test_an_agent_keeps_one_row_under_its_latest_name():
    told = tables(ran(1, agent_name="old"), ran(2, agent_name="new"))[AGENT_DAILY]
    assert told.select("agent_name", "execution_count").rows() == [("new", 2)]


def test_an_hour_begins_on_the_hour():
    hours = tables(ran(59), ran(60), ran(61))[AGENT_HOURLY]
    assert hours.select("hour", "execution_count").rows() == [
        (MIDNIGHT, 1),
        (MIDNIGHT + timedelta(hours=1), 2),
    ]


def test_the_cube_tells_failures_by_category():
    cube = tables(ran(1), ran(2, status="failed", error_message="HTTP 429"))[CUBE]
    assert cube.select("status", "failure_category").rows() == [("failed", "rate_limit"), ("success", None)]


def test_an_empty_day_has_empty_tables():
    assert {name: table.height for name, table in tables().items()} == dict.fromkeys(TABLES, 0)


amounts = st.none() | st.integers(0, 10**9)
executions = st.builds(
    lambda minute, agent, model, status, duration, tokens, cost: ran(
        minute,
        agent_id=agent,
        model=model,
        status=status,
        duration_ms=duration,
        input_tokens=tokens,
        cost_usd=None if cost is None else Decimal(cost) / 10**6,
        cost_source="unpriced" if cost is None else "provided",
    ),
    st.integers(0, 1439),
    st.sampled_from("abc"),
    st.sampled_from(["m", "n", None]),
    st.sampled_from(STATUSES),
    amounts,
    amounts,
    amounts,
)


@settings(max_examples=60)
@given(st.lists(executions, max_size=60), st.randoms())
def test_all_tables_tell_the_same_totals_in_whatever_order_rows_come(rows, random):
    told = tables(*rows)
    assert judge(told, as_frame(rows, EXECUTION)).passed
    shuffled = [dict(row) for row in rows]
    random.shuffle(shuffled)
    for name, table in tables(*shuffled).items():
        assert table.equals(told[name])
    cube = told[CUBE]
    assert cube.filter(pl.col("status").is_in(FAILURES))["execution_count"].sum() == sum(
        row["status"] in FAILURES for row in rows
    )


def test_tables_that_contradict_each_other_are_told():
    rows = [ran(1), ran(2)]
    broken = tables(*rows) | {CUBE: tables(*rows[:1])[CUBE]}
    verdict = judge(broken, as_frame(rows, EXECUTION))
    assert verdict.blocks
    assert "execution_rollup_hourly.execution_count adds up" in verdict.message


@pytest.mark.parametrize(
    ("table", "column", "value"), [(AGENT_DAILY, "user_count", 1), (USER_DAILY, "user_key", "somebody else")]
)
def test_users_that_are_not_those_of_the_executions_are_told(table, column, value):
    rows = [ran(1, user_key="u1"), ran(2, user_key="u2"), ran(3)]
    made = tables(*rows)
    assert judge(made, as_frame(rows, EXECUTION)).passed
    broken = made | {table: made[table].with_columns(pl.lit(value).alias(column))}
    assert judge(broken, as_frame(rows, EXECUTION)).message == f"{table}.{column} adds up: it does not"


@pytest.fixture
def day_of(warehouse):
    """Publish rows as a day of the table, and return it as rollups read it."""

    def publish(*rows, content="one"):
        frame = as_frame(list(rows), EXECUTION).sort("event_time")
        load = Load(table="executions", day=DAY, content=content, rows=frame.height)
        publish_partition(warehouse, load, frame, lambda _: None)
        return enter_day(warehouse, DAY, frame, content)

    return publish


def test_rollups_equal_the_same_questions_in_sql(warehouse, day_of):
    rows = [
        ran(
            n,
            agent_id="ab"[n % 3 == 0],
            status=STATUSES[n % 5],
            duration_ms=(n * 7919) % 5003 if n % 7 else None,
            user_key=f"u{n % 11}" if n % 4 else None,
            cost_usd=Decimal(n) / 1000 if n % 3 else None,
            cost_source="provided" if n % 3 else "unpriced",
            input_tokens=n * 10 if n % 2 else None,
        )
        for n in range(600)
    ]
    publish_derived(day_of(*rows), warehouse, PRICES)
    in_sql = warehouse.read(
        """
        select agent_id, count(*) as n, count(*) filter (where status = 'success') as successes,
            avg((status = 'success')::int)::float8 as rate, count(distinct user_key) as users,
            count(duration_ms) as durations, avg(duration_ms)::float8 as average,
            percentile_cont(0.5) within group (order by duration_ms) as p50,
            percentile_cont(0.95) within group (order by duration_ms) as p95,
            percentile_cont(0.99) within group (order by duration_ms) as p99,
            sum(cost_usd) as cost, count(cost_usd) as priced, sum(input_tokens)::bigint as tokens
        from agentmill.executions group by agent_id order by agent_id
        """
    )
    ours = warehouse.read(
        """
        select agent_id, execution_count, success_count, success_rate, user_count, duration_count, duration_avg_ms,
            duration_p50_ms, duration_p95_ms, duration_p99_ms, cost_usd, priced_count, input_tokens
        from agentmill.agent_metrics_daily order by agent_id
        """
    )
    for expected, told in zip(in_sql.rows(), ours.rows(), strict=True):
        assert told == pytest.approx(expected)


def test_a_day_rolled_up_again_is_replaced_whole(warehouse, day_of):
    publish_derived(day_of(ran(1), ran(2, agent_id="b")), warehouse, PRICES)
    derived = publish_derived(day_of(ran(1), content="two"), warehouse, PRICES)
    assert [verdict.passed for verdict in derived.verdicts] == [True, True]
    assert derived.tables[AGENT_DAILY].height == 1
    assert warehouse.read("select agent_id from agentmill.agent_metrics_daily").to_series().to_list() == ["a"]


def test_a_day_that_changed_meanwhile_is_not_rolled_up(warehouse, day_of):
    stale = day_of(ran(1))
    publish_derived(day_of(ran(1), ran(2), content="two"), warehouse, PRICES)
    with pytest.raises(BusyError, match="run the days again"):
        publish_derived(stale, warehouse, PRICES)
    assert warehouse.read("select execution_count from agentmill.agent_metrics_daily").item() == 2


def test_the_view_gives_every_rate_its_interval_and_every_figure_its_n(warehouse, day_of):
    rows = [ran(n, status="success" if n < 8 else "failed") for n in range(10)]
    publish_derived(day_of(*rows), warehouse, PRICES)
    told = warehouse.read("select * from agentmill.agent_performance").row(0, named=True)
    assert told["success_rate_low"] == pytest.approx(0.4902, abs=1e-4)
    assert told["success_rate_high"] == pytest.approx(0.9433, abs=1e-4)
    assert (told["execution_count"], told["cost_per_run_usd"], told["duration_p95_ms"]) == (10, None, None)
