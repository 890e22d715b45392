import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from conftest import as_frame, database_url
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION, STATUSES
from pipelines.failures import categorize_failures
from pipelines.pricing.book import load_prices
from pipelines.rollup import (
    _DIMENSIONS,
    AGENT_DAILY,
    CUBE,
    CUBE_DAILY,
    CUBE_QUARTER_HOURLY,
    TABLES,
    compute,
    judge,
    judge_sketches,
)
from pipelines.rollup.sketch import quantile
from pipelines.warehouse.connection import SCHEMA, Warehouse
from pipelines.warehouse.copying import copy_frame
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.migrations import downgrade, upgrade
from pipelines.warehouse.publish import publish_partition

PRICES = load_prices()
LONG_DAYS = {  # the days around which clocks change
    "UTC": date(2026, 3, 29),
    "Europe/Berlin": date(2026, 3, 29),
    "Europe/Paris": date(2026, 10, 25),
    "Asia/Kathmandu": date(2026, 3, 29),
    "Australia/Lord_Howe": date(2026, 4, 5),
    "Australia/LHI": date(2026, 10, 4),
    "America/Havana": date(2026, 11, 1),  # midnight comes twice
    "America/Santiago": date(2026, 9, 6),  # midnight does not come
}
SUMS = {
    "duration_sum_ms": "duration_ms",
    "ttft_sum_ms": "ttft_ms",
    "cost_usd": "cost_usd",
    "credits": "credits",
    "input_tokens": "input_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "llm_calls": "llm_calls",
    "tool_calls": "tool_calls",
    "files_modified": "files_modified",
}
COUNTS = {
    "duration_count": "duration_ms",
    "ttft_count": "ttft_ms",
    "priced_count": "cost_usd",
    "metered_count": "input_tokens",
    "credited_count": "credits",
}
SKETCHES = {"duration_sketch": "duration_ms", "ttft_sketch": "ttft_ms", "cost_sketch": "cost_usd"}


def executions_around(day, count, seed=1):
    """Executions of five days, with every measure known of some and unknown of others."""
    chance = random.Random(seed)
    midnight = datetime.combine(day, datetime.min.time(), tzinfo=UTC)

    def maybe(value):
        return value if chance.random() < 0.7 else None

    rows = [
        {
            "source": "app",
            "execution_id": f"r{number}",
            "row_hash": "0",
            "agent_id": chance.choice("ab"),
            "agent_name": "planner",
            "status": chance.choice(STATUSES),
            "error_message": maybe("HTTP 429"),
            "model": maybe("m"),
            "user_key": maybe(f"u{chance.randrange(40)}"),
            "event_time": midnight + timedelta(seconds=chance.randrange(-172_800, 259_200)),
            "cost_source": "provided" if cost is not None else "unpriced",
            "quality_flags": [],
            "cost_usd": cost,
            "credits": maybe(Decimal(chance.randrange(100))),
            "cache_read_tokens": maybe(chance.randrange(3)),
            **{
                column: maybe(chance.randrange(10**6))
                for column in SUMS.values()
                if column not in {"cost_usd", "credits"}
            },
        }
        for number in range(count)
        for cost in [maybe(Decimal(chance.randrange(10**6)) / 10**5)]
    ]
    return as_frame(rows, EXECUTION).sort("event_time")


@pytest.mark.parametrize(("table", "every"), [(CUBE, "1h"), (CUBE_DAILY, "1d"), (CUBE_QUARTER_HOURLY, "15m")])
def test_every_measure_of_a_cube_is_that_of_its_executions(table, every):
    executions = executions_around(date(2026, 3, 10), 1500)
    told = compute(executions, categorize_failures, PRICES)[table]
    time = {"1h": "hour", "1d": "day", "15m": "quarter"}[every]
    groups = defaultdict(list)
    labelled = executions.with_columns(
        categorize_failures(executions).alias("failure_category"), at=pl.col("event_time").dt.truncate(every)
    )
    for row in labelled.iter_rows(named=True):
        at = row["at"].date() if time == "day" else row["at"]
        groups[at, *(row[name] for name in _DIMENSIONS)].append(row)
    assert told.height == len(groups)
    for row in told.iter_rows(named=True):
        rows = groups[row[time], *(row[name] for name in _DIMENSIONS)]
        assert row["day"] == rows[0]["event_time"].date()
        assert row["execution_count"] == len(rows)
        for name, column in COUNTS.items():
            assert row[name] == sum(one[column] is not None for one in rows)
        for name, column in SUMS.items():
            known = [one[column] for one in rows if one[column] is not None]
            assert row[name] == (sum(known) if known else None)
        metered = [one["cache_read_tokens"] for one in rows if one["input_tokens"] is not None]
        assert (row["cache_read_tokens"] or 0) == sum(tokens or 0 for tokens in metered)
        assert row["cache_read_count"] == sum((tokens or 0) > 0 for tokens in metered)
        for name, column in SKETCHES.items():
            known = sorted(float(one[column]) for one in rows if one[column] is not None)
            assert (row[name] is None) == (not known)
            for q in (0, 0.5, 1) if known else ():
                exact = known[int(q * (len(known) - 1))]
                assert quantile(row[name], q) == pytest.approx(exact, rel=0.0100001, abs=1e-9)


def test_conservation_looks_at_every_cube_and_sketch():
    executions = executions_around(date(2026, 3, 10), 300)
    tables = compute(executions, categorize_failures, PRICES)
    assert judge(tables, executions).passed
    wrong = {CUBE_DAILY: "ttft_sum_ms", CUBE_QUARTER_HOURLY: "cost_sketch", AGENT_DAILY: "ttft_sketch"}
    for name, column in wrong.items():
        emptied = tables[name].with_columns(pl.lit(None, tables[name].schema[column]).alias(column))
        assert judge(tables | {name: emptied}, executions).message == f"{name}.{column} adds up: it does not"


def test_a_sketch_that_is_off_is_told():
    executions = executions_around(date(2026, 3, 10), 300)
    tables = compute(executions, categorize_failures, PRICES)
    verdict = judge_sketches(tables, executions)
    assert verdict.passed
    assert verdict.figures["durations"] > 100
    assert 0 <= verdict.figures["p99_error"] <= 0.01
    longer = executions.with_columns(pl.col("duration_ms") * 2)
    verdict = judge_sketches(tables, longer)
    assert (verdict.passed, verdict.severity) == (False, "warning")
    assert verdict.figures["p50_error"] == pytest.approx(0.5, abs=0.02)
    assert judge_sketches(compute(executions[:0], categorize_failures, PRICES), executions[:0]).passed


def fill(warehouse, executions):
    """Publish executions of many days and their rollups, without the ledger."""
    with warehouse.connect() as connection:
        for name, rows in compute(executions, categorize_failures, PRICES).items():
            copy_frame(connection, rows, SCHEMA, name)
    for (day,), rows in executions.group_by(pl.col("event_time").dt.date()):
        load = Load(table="executions", day=day, content="one", rows=rows.height)
        publish_partition(warehouse, load, rows, lambda _: None)


def asked(warehouse, zone, question, *parameters):
    with warehouse.connect() as connection:
        connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
        return connection.execute(question, parameters or None).fetchall()


def start_of_local_hour(instant, zone):
    """The first quarter of an hour since which clocks show the same hour and no clock was changed."""

    def shown(at):
        local = at.astimezone(ZoneInfo(zone))
        return local.date(), local.hour, local.utcoffset()

    start = instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)
    while shown(start - timedelta(minutes=15)) == shown(instant):
        start -= timedelta(minutes=15)
    return start


@pytest.mark.parametrize(("zone", "day"), LONG_DAYS.items())
def test_local_views_tell_days_and_hours_as_clocks_showed_them(warehouse, zone, day):
    executions = executions_around(day, 2500)
    fill(warehouse, executions)
    days, hours = defaultdict(lambda: [0, 0, 0]), defaultdict(lambda: [0, 0, 0])
    for row in executions.iter_rows(named=True):
        local = row["event_time"].astimezone(ZoneInfo(zone))
        start = start_of_local_hour(row["event_time"], zone)
        for told in (
            days[(local.date(),)],
            hours[local.date(), start, local.hour, local.isoweekday()],
        ):
            told[0] += 1
            told[1] += row["cost_usd"] or 0
            told[2] += row["ttft_ms"] is not None
    for view, keys, expected in (
        ("execution_rollup_local_daily", "day", days),
        ("execution_rollup_local_hourly", "day, hour, hour_of_day, weekday", hours),
    ):
        rows = asked(
            warehouse,
            zone,
            f"select {keys}, sum(execution_count), sum(cost_usd), sketch_count(sketch_merge(ttft_sketch)) "
            f"from {view} group by {keys}",
        )
        assert {row[:-3]: [row[-3], row[-2] or 0, row[-1] or 0] for row in rows} == expected


def test_a_local_view_reads_one_table_and_only_the_days_asked_for(warehouse):
    fill(warehouse, executions_around(date(2026, 7, 10), 2000))
    with warehouse.connect() as connection:
        connection.execute("analyze agentmill.execution_rollup_hourly, agentmill.execution_rollup_quarter_hourly")
    question = (
        "explain (analyze, timing off, costs off, summary off) "
        "select sum(execution_count) from agentmill.{} where day >= '2026-07-12'"
    )
    read = {
        ("UTC", "execution_rollup_local_daily"): "execution_rollup_daily",
        ("Europe/Berlin", "execution_rollup_local_daily"): "execution_rollup_hourly",
        ("Asia/Kathmandu", "execution_rollup_local_daily"): "execution_rollup_quarter_hourly",
        ("UTC", "execution_rollup_local_hourly"): "execution_rollup_hourly",
        ("Europe/Berlin", "execution_rollup_local_hourly"): "execution_rollup_hourly",
        ("Asia/Kathmandu", "execution_rollup_local_hourly"): "execution_rollup_quarter_hourly",
    }
    for (zone, view), table in read.items():
        plan = "\n".join(line for (line,) in asked(warehouse, zone, question.format(view)))
        executed = [line for line in plan.splitlines() if "never executed" not in line]
        scanned = [line for line in executed if " on execution_rollup" in line]
        assert scanned, plan
        assert all(f" on {table} " in line for line in scanned), plan


@pytest.fixture(scope="module")
def of_users(embedded_server):
    warehouse = Warehouse(database_url(embedded_server, "test_cubes_users"))
    upgrade(warehouse)
    executions = executions_around(date(2026, 3, 10), 400, seed=2)
    fill(warehouse, executions)
    return warehouse, executions.select("event_time", "user_key", "agent_id").rows()


instants = st.one_of(
    st.datetimes(datetime(2026, 3, 7), datetime(2026, 3, 14)),
    st.dates(date(2026, 3, 7), date(2026, 3, 14)).map(lambda day: datetime(day.year, day.month, day.day)),
).map(lambda moment: moment.replace(tzinfo=UTC))


@settings(max_examples=100)
@given(instants, instants, st.sampled_from([None, "a", "b"]))
def test_users_of_any_range_are_counted_exactly(of_users, first, last, agent):
    warehouse, rows = of_users
    expected = {user for at, user, of in rows if first <= at < last and user and agent in {None, of}}
    told = warehouse.read("select agentmill.user_count(%s, %s, %s)", [first, last, agent]).item()
    assert told == len(expected)


def test_users_of_all_time_are_counted(of_users):
    warehouse, rows = of_users
    told = warehouse.read("select agentmill.user_count('-infinity', 'infinity')").item()
    assert told == len({user for _, user, _ in rows if user})


def test_days_from_before_the_cubes_are_in_the_daily_cube(warehouse):
    fill(warehouse, executions_around(date(2026, 3, 10), 500))
    query = (
        "select day, agent_id, status, model, failure_category, execution_count, cost_usd, input_tokens "
        "from agentmill.execution_rollup_daily order by 1, 2, 3, 4, 5"
    )
    before = warehouse.read(query)
    downgrade(warehouse, "0005")
    upgrade(warehouse)
    assert warehouse.read(query).equals(before)


def test_rollups_name_all_their_tables():
    assert set(compute(executions_around(date(2026, 3, 10), 10), categorize_failures, PRICES)) == set(TABLES)
