"""What goes when it was kept long enough, what stays, and that a day without raw records is not taken for empty."""

from datetime import UTC, date, datetime

import psycopg
import pytest
from conftest import as_frame
from regression_builders import CASE_ID, approve

from pipelines.clean import CLEAN_EXECUTIONS, QUARANTINED, CleanReceipt, StaleRawError, clean
from pipelines.execution import EXECUTION
from pipelines.extract import RawReceipt, extract, find_dirty_days
from pipelines.extract.receipt import MissingInputError
from pipelines.failures import publish_clusters
from pipelines.privacy.retention import ROLLUPS, months_before, plan_retention, retain
from pipelines.publication import publish_day
from pipelines.settings import RetentionSettings
from pipelines.validate import validate
from pipelines.warehouse.ledger import BusyError, Load, loaded_content, loading
from pipelines.warehouse.publish import publish_partition

TODAY = date(2026, 7, 24)
READ_AT = datetime(2026, 7, 24, tzinfo=UTC)
KEPT = RetentionSettings(raw_days=30, quarantine_days=10, executions_months=2, rollups_months=3)


@pytest.fixture
def run(source, lake, warehouse, key, prices):
    """Everything that depends on one day, as the graph does it."""

    def day_of(day):
        configured = source(max_quarantine_share=1)
        extract(configured, [day], lake, READ_AT)
        clean(day, [configured], lake, key, prices)
        validate(day, [configured], lake, prices)
        publish_day(day, lake, warehouse, prices)
        publish_clusters(warehouse)
        return configured

    return day_of


@pytest.fixture
def days(write_log, record, run):
    """A day of each age, each with two executions, one of them failed, and a broken line."""
    aged = [date(2026, 3, 31), date(2026, 4, 1), date(2026, 5, 1), date(2026, 6, 23), date(2026, 6, 24)]
    for day in aged:
        times = {"started": f"{day}T10:00:00Z", "ended": f"{day}T10:00:02Z"}
        write_log(
            record(**times), record(**times, state="failed", error=f"broke {day:%B}"), "{torn", name=f"{day}.ndjson"
        )
        run(day)
    return aged


def days_in(warehouse, table, column="day"):
    return warehouse.read(f"select distinct ({column})::date from agentmill.{table} order by 1").to_series().to_list()


def test_everything_goes_when_its_time_has_come_and_not_a_day_earlier(days, lake, warehouse):
    plan = plan_retention(KEPT, lake, warehouse, TODAY)
    assert [(one.place, one.first_day, one.last_day, one.days, one.rows) for one in plan[:3]] == [
        ("lake raw/app", days[0], days[3], 4, 12),
        ("lake quarantine", days[0], days[4], 5, 5),
        ("lake clean_executions", days[0], days[1], 2, 4),
    ]
    assert [(one.place, one.days, one.rows) for one in plan[3:5]] == [
        ("table executions, partition executions_2026_03", 1, 2),
        ("table executions, partition executions_2026_04", 1, 2),
    ]
    assert [(one.place, one.days, one.rows) for one in plan[5:6]] == [("table failure_occurrences", 2, 2)]
    assert [one.place for one in plan[6:]] == [f"table {table}" for table in ROLLUPS]
    assert {(one.first_day, one.last_day, one.days) for one in plan[6:]} == {(days[0], days[0], 1)}
    assert all(one.size_bytes for one in plan[:5])
    assert retain(KEPT, lake, warehouse, TODAY) == plan
    assert [lake.receipt("raw/app", day, RawReceipt).is_dropped for day in days] == [True] * 4 + [False]
    assert lake.days(QUARANTINED) == []
    assert lake.days(CLEAN_EXECUTIONS) == days[2:]
    assert days_in(warehouse, "executions", "event_time") == days[2:]
    assert days_in(warehouse, "failure_occurrences") == days[2:]
    assert {table: days_in(warehouse, table) for table in ROLLUPS} == dict.fromkeys(ROLLUPS, days[1:])
    left = warehouse.read("select count(*) from pg_class where relname similar to 'executions_2026_0(3|4)%'")
    assert left.item() == 0
    with warehouse.connect() as connection:
        assert [loaded_content(connection, "executions", day) is None for day in days] == [True] * 2 + [False] * 3
        assert [loaded_content(connection, ROLLUPS[0], day) is None for day in days] == [True] + [False] * 4
    words = warehouse.read("select sample_message from agentmill.failure_clusters").to_series().to_list()
    assert "broke March" not in words
    assert len(words) == 3
    assert plan_retention(KEPT, lake, warehouse, TODAY) == []


def test_cases_are_kept_before_and_what_follows_is_derived_once_executions_went(days, lake, warehouse):
    approve(warehouse)
    (failed, at) = warehouse.read(
        "select execution_id, event_time from agentmill.executions where status = 'failed' order by event_time limit 1"
    ).row(0)
    with warehouse.connect() as connection:
        connection.execute("update agentmill.regression_candidates set evidence_execution_ids = %s", [[failed]])
    derived = []
    months = RetentionSettings(executions_months=1, rollups_months=60)
    retain(months, lake, warehouse, TODAY, derived.append)
    assert derived == [warehouse]
    kept = warehouse.read("select case_id, frozen_at > %s as is_later from agentmill.regression_case_inputs", [at])
    assert kept.rows() == [(CASE_ID, True)]
    retain(months, lake, warehouse, TODAY, derived.append)
    assert len(derived) == 1


def test_planning_changes_nothing_and_what_is_young_stays(days, lake, warehouse):
    assert plan_retention(RetentionSettings(), lake, warehouse, days[-1]) != []
    assert [one.place for one in plan_retention(RetentionSettings(), lake, warehouse, days[0])] == []
    assert days_in(warehouse, "executions", "event_time") == days
    assert not any(lake.receipt("raw/app", day, RawReceipt).is_dropped for day in days)


def test_the_present_month_is_never_touched():
    assert months_before(date(2026, 3, 31), 1) == date(2026, 2, 1)
    assert months_before(date(2026, 1, 1), 13) == date(2024, 12, 1)
    assert months_before(date(2026, 12, 31), 60) == date(2021, 12, 1)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        RetentionSettings(executions_months=0)


def test_a_day_without_its_raw_records_is_neither_dirty_nor_taken_for_empty(
    days, run, lake, warehouse, key, prices, tmp_path
):
    retain(KEPT, lake, warehouse, TODAY)
    day = days[2]
    configured = run(days[-1])
    assert find_dirty_days(configured, lake, READ_AT, days[0]) == {}
    with pytest.raises(StaleRawError, match="kept for as long as"):
        clean(day, [configured], lake, key, prices)
    file = tmp_path / "logs" / f"{day}.ndjson"
    held = file.read_text()
    file.unlink()
    assert find_dirty_days(configured, lake, READ_AT, days[0]) == {}
    with pytest.raises(MissingInputError, match="Nothing was changed"):
        extract(configured, [day], lake, READ_AT)
    assert days_in(warehouse, "executions", "event_time") == days[2:]
    file.write_text(held.replace("broke", "broken"))
    assert list(find_dirty_days(configured, lake, READ_AT, days[0])) == [day]
    run(day)
    assert not lake.receipt("raw/app", day, RawReceipt).is_dropped
    assert lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt).rows == 2


@pytest.fixture
def months(warehouse):
    """A published day in an old month and one in a young one."""
    days = [date(2026, 3, 31), date(2026, 5, 1)]
    for day in days:
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        known = {"source": "app", "execution_id": "r", "row_hash": "0", "agent_id": "a", "agent_name": "a"}
        row = {**known, "status": "success", "event_time": at, "cost_source": "unpriced", "quality_flags": []}
        load = Load(table="executions", day=day, content="one", rows=1)
        publish_partition(warehouse, load, as_frame([row], EXECUTION), lambda _: None)
    return days


def test_a_day_that_is_being_loaded_keeps_its_month(months, lake, warehouse):
    with (
        warehouse.connect() as connection,
        loading(connection, "executions", months[0]),
        pytest.raises(BusyError, match="being loaded"),
    ):
        retain(KEPT, lake, warehouse, TODAY)
    assert days_in(warehouse, "executions", "event_time") == months
    retain(KEPT, lake, warehouse, TODAY)
    assert days_in(warehouse, "executions", "event_time") == months[1:]


def test_a_month_that_is_read_waits_for_its_reader(months, lake, warehouse, monkeypatch):
    monkeypatch.setattr("pipelines.privacy.retention._DETACH_ATTEMPTS", 2)
    with warehouse.connect() as reader, reader.transaction():
        reader.execute("select count(*) from agentmill.executions")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            retain(KEPT, lake, warehouse, TODAY)
    assert days_in(warehouse, "executions", "event_time") == months
    retain(KEPT, lake, warehouse, TODAY)
    assert days_in(warehouse, "executions", "event_time") == months[1:]
