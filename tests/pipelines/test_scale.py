"""What questions read of the warehouse: only the days they are about, and only the latest failures."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from conftest import as_frame, database_url

from pipelines.execution import EXECUTION
from pipelines.pricing.book import load_prices
from pipelines.publication import publish_derived
from pipelines.rollup import TABLES
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import PublishedDay
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.publish import publish_partition

FIRST = date(2026, 1, 20)
DAYS = 40
RUNS = 150


def publish(warehouse, day, content="one"):
    """Runs of three agents and two models; every fiftieth fails."""
    midnight = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    frame = as_frame(
        [
            {
                "source": "app",
                "execution_id": f"r{n}",
                "row_hash": "0",
                "agent_id": "abc"[n % 3],
                "agent_name": "planner",
                "model": "mn"[n % 2],
                "status": "failed" if n % 50 == 0 else "success",
                "duration_ms": 10 + n * 37 % 997,
                "event_time": midnight + timedelta(minutes=9 * n),
                "cost_source": "unpriced",
                "quality_flags": [],
            }
            for n in range(RUNS)
        ],
        EXECUTION,
    )
    load = Load(table="executions", day=day, content=content, rows=RUNS)
    publish_partition(warehouse, load, frame, lambda _: None)
    publish_derived(PublishedDay(day=day, content=content, rows=frame), warehouse, load_prices())


@pytest.fixture(scope="module")
def forty_days(embedded_server):
    warehouse = Warehouse(database_url(embedded_server, "test_scale"))
    upgrade(warehouse)
    for n in range(DAYS):
        publish(warehouse, FIRST + timedelta(days=n))
    publish(warehouse, FIRST + timedelta(days=DAYS - 1), "two")
    with warehouse.connect() as connection:
        connection.execute("analyze")
    return warehouse


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def read(warehouse, question, zone="UTC"):
    """Rows that scans of each table read when the question is asked, those they threw away included."""
    with warehouse.connect() as connection:
        connection.execute("set enable_seqscan = off")  # small tables are read whole where an index would do
        connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
        row = connection.execute(f"explain (analyze, format json, timing off) {question}").fetchone()
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    told = {}
    for node in nodes(plan[0]["Plan"]):
        if "Relation Name" in node and node["Actual Loops"]:
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            name = node["Relation Name"]
            told[name] = told.get(name, 0) + rows * node["Actual Loops"]
    return told


def held(warehouse, table, first, last):
    statement = f"select count(*) from agentmill.{table} where day >= %s and day < %s"
    return warehouse.read(statement, [first, last]).item()


WEEK = "date '2026-02-03', date '2026-02-10'"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Europe/Berlin"])
@pytest.mark.parametrize(
    "question",
    [
        "select * from agentmill.cost_daily where day >= '2026-02-03' and day < '2026-02-10'",
        "select * from agentmill.model_status_daily where day >= '2026-02-03' and day < '2026-02-10'",
        f"select * from agentmill.success_rate(null, null, {WEEK})",
        f"select * from agentmill.model_comparison({WEEK})",
        f"select * from agentmill.pricing_insight({WEEK})",
        f"select * from agentmill.usage_peaks({WEEK})",
    ],
)
def test_a_question_about_a_week_reads_the_cubes_of_a_week(forty_days, question, zone):
    scanned = {name: rows for name, rows in read(forty_days, question, zone).items() if name in TABLES}
    # A day of another zone reaches into two UTC days; sums and sketches may be two scans; names are of all days.
    for name in scanned.keys() - {"agent_metrics_daily"}:
        assert 0 < scanned[name] <= 2 * held(forty_days, name, "2026-02-02", "2026-02-11")
    largest = {"UTC": "execution_rollup_daily", "Asia/Kathmandu": "execution_rollup_quarter_hourly"}
    of_hours = "usage_peaks" in question and zone == "UTC"
    assert ("agent_metrics_hourly" if of_hours else largest.get(zone, "execution_rollup_hourly")) in scanned


def test_a_range_of_executions_reads_the_partitions_of_its_days(forty_days):
    scanned = read(
        forty_days,
        "select count(*) from agentmill.executions "
        "where event_time >= '2026-01-31 00:00Z' and event_time < '2026-02-02 00:00Z'",
    )
    assert scanned == {"executions_2026_01_31": RUNS, "executions_2026_02_01": RUNS}


@pytest.mark.parametrize("agent", ["", "where agent_id = 'a'"])
def test_the_latest_failures_are_found_without_the_days_before_them(forty_days, agent):
    question = f"select * from agentmill.recent_failures {agent} order by event_time desc limit 4"
    scanned = read(forty_days, question)
    assert 0 < sum(scanned.values()) <= 20
    assert set(scanned) <= {f"executions_2026_02_{day}" for day in range(24, 29)}
    latest = forty_days.read(question)["event_time"]
    assert latest.to_list() == sorted(latest, reverse=True)


def test_a_day_that_is_attached_has_the_indexes_of_its_table(forty_days):
    counts = forty_days.read(
        "select count(*) as n from pg_indexes where schemaname = 'agentmill_partitions' "
        "and indexdef like '%(event_time)%' and tablename ~ '^executions_\\d{4}_\\d\\d_\\d\\d$' group by tablename"
    )["n"]
    assert counts.to_list() == [1] * counts.len()
    assert counts.len() >= DAYS


@pytest.mark.parametrize("by", ["{}", "{agent_id}", "{week,agent_id}", "{model}", "{day,provider,model}"])
def test_percentiles_from_daily_sketches_are_those_of_the_cube(forty_days, by):
    """In UTC sketches of whole days are merged; in Dublin's winter, with the same days, those of hours."""
    told = []
    for zone in ("UTC", "Europe/Dublin"):
        with forty_days.connect() as connection:
            connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
            rows = connection.execute(
                "select * from agentmill.performance('2026-02-03', '2026-02-10', %s)", [by]
            ).fetchall()
        told.append(sorted((row[:-2] for row in rows), key=repr))  # each cube was published at a moment of its own
    assert told[0] == told[1]
    assert all(value is not None for row in told[0] for value in row[22:24])  # p50 and p95
