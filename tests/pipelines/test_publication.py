"""A day and all that is derived from it become visible in one moment, or not at all."""

import threading

import psycopg
import pytest
from conftest import DAY, NOW

from pipelines import publication
from pipelines.clean import clean
from pipelines.extract import extract
from pipelines.publication import derive, publish_day
from pipelines.validate import validate
from pipelines.validate.verdict import Verdict
from pipelines.warehouse.executions import PublishedDay, account

TOTALS = """
select
    (select count(*) from agentmill.executions),
    (select sum(clean_count) from agentmill.receipts_daily),
    (select sum(execution_count) from agentmill.execution_rollup_hourly),
    (select sum(execution_count) from agentmill.agent_metrics_daily),
    (select sum(execution_count) from agentmill.model_metrics_daily),
    (select sum(identified_count) from agentmill.agent_metrics_hourly),
    (select sum(execution_count) from agentmill.user_activity_daily)
"""


@pytest.fixture
def published(source, lake, key, prices, warehouse, write_log):
    """Write records and publish their day."""

    def run(*records):
        write_log(*records)
        extract(source(), [DAY], lake, NOW)
        clean(DAY, [source()], lake, key, prices)
        validate(DAY, [source()], lake, prices)
        return publish_day(DAY, lake, warehouse, prices)

    return run


def totals(warehouse):
    """What each table says of the number of executions, asked in one statement."""
    with warehouse.connect() as connection:
        return set(connection.execute(TOTALS).fetchone())


def test_no_reader_ever_sees_tables_of_two_loads(published, record, warehouse):
    published(record())
    seen, over = [], threading.Event()

    def read():
        with warehouse.connect() as connection:
            while not over.is_set():
                seen.append(frozenset(connection.execute(TOTALS).fetchone()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for count in (2, 3, 4, 5, 6):
            published(*(record() for _ in range(count)))
    finally:
        over.set()
        reader.join()
    assert {len(one) for one in seen} == {1}
    assert totals(warehouse) == {6}


def test_what_cannot_be_written_leaves_the_whole_day_as_it_was(published, record, warehouse, monkeypatch):
    published(record(), record())
    with warehouse.connect() as connection:
        connection.execute(
            "alter table agentmill.failure_signatures_daily add constraint late check (day < '2000-1-1')"
        )
    with pytest.raises(psycopg.errors.CheckViolation):
        published(record(), record(), record(state="failed", error="boom"))
    assert totals(warehouse) == {2}
    with warehouse.connect() as connection:
        connection.execute("alter table agentmill.failure_signatures_daily drop constraint late")
    once_more = [record(), record(), record(state="failed", error="boom")]
    assert published(*once_more)[0].outcome == "published"
    assert published(*once_more)[0].outcome == "unchanged"
    assert totals(warehouse) == {3}


def test_tables_that_contradict_each_other_are_kept_out(published, record, lake, warehouse, monkeypatch):
    published(record())
    doubt = Verdict(check="rollups_conserve", severity="error", passed=False, message="cube.cost_usd adds up: not")
    monkeypatch.setattr(publication.rollup, "judge", lambda *_: doubt)
    told, derived = published(record(), record())
    assert (told.outcome, told.reasons) == ("blocked", ["cube.cost_usd adds up: not"])
    assert doubt in derived.verdicts
    assert totals(warehouse) == {1}
    assert not account(DAY, lake, warehouse).is_published


def test_what_was_lost_of_a_day_is_made_again(published, record, warehouse):
    once = record()
    published(once)
    with warehouse.connect() as connection:
        connection.execute("delete from agentmill.agent_metrics_daily")
        connection.execute("delete from agentmill.load_ledger where table_name = 'agent_metrics_daily'")
    assert published(once)[0].outcome == "unchanged"
    assert totals(warehouse) == {1}


def test_only_what_is_needed_of_an_execution_is_read(cleaned, record, prices):
    rows = cleaned(record()).rows.select(publication.COLUMNS)
    derived = derive(PublishedDay(day=DAY, content="one", rows=rows), prices)
    assert derived.tables["agent_metrics_daily"]["execution_count"].to_list() == [1]
