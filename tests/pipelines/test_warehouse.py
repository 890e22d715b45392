import io
import json
import shutil
import threading
from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg
import pytest
from conftest import DAY, as_frame
from sqlalchemy.exc import DataError

from pipelines.clean import clean
from pipelines.execution import EXECUTION
from pipelines.extract import extract
from pipelines.failures import SIGNATURES, signature_facts
from pipelines.record_types import EXECUTIONS, RECORD_TYPES
from pipelines.validate import validate
from pipelines.warehouse import publish
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import account, publish_records
from pipelines.warehouse.ledger import ALL_DAYS, BusyError, Load, loading
from pipelines.warehouse.migrations import SQL_FOLDER, current_revision, downgrade, upgrade
from pipelines.warehouse.publish import IncompleteLoadError, publish_partition, replace_rows, sweep_staging
from pipelines.warehouse.query import ask, write_csv, write_json
from pipelines.warehouse.roles import ONCALL

HEAD = "0010"
NOON = datetime.combine(DAY, datetime.min.time(), tzinfo=UTC) + timedelta(hours=12)
_POSTGRES_TYPES = {
    "boolean": pl.Boolean(),
    "text": pl.String(),
    "bigint": pl.Int64(),
    "double precision": pl.Float64(),
    "numeric": pl.Decimal(38, 10),
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "ARRAY": pl.List(pl.String()),
    "jsonb": pl.String(),
}


def rows(count=2, day=DAY, **overrides):
    shared = {
        "source": "app",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "a",
        "status": "success",
        "event_time": NOON + (day - DAY),
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }
    return as_frame([{**shared, "execution_id": f"r{number}"} for number in range(count)], EXECUTION)


def load_of(frame, content, day=DAY):
    return Load(table="executions", day=day, content=content, rows=frame.height)


def put(warehouse, frame, content, day=DAY, also=lambda _: None):
    return publish_partition(warehouse, load_of(frame, content, day), frame, also)


def count_of(warehouse):
    return warehouse.read("select count(*) from agentmill.executions").item()


def test_migrations_go_forth_and_back_and_forth_again(any_database):
    warehouse = Warehouse(any_database)
    upgrade(warehouse)
    assert current_revision(warehouse) == HEAD
    put(warehouse, rows(), "one")
    downgrade(warehouse, "base")
    left = warehouse.read("select tablename from pg_tables where schemaname like 'agentmill%'")
    assert left.to_series().to_list() == ["alembic_version"]
    upgrade(warehouse)
    assert put(warehouse, rows(), "one")
    upgrade(warehouse)
    assert count_of(warehouse) == 2


def test_what_the_first_release_published_survives_the_upgrade(warehouse):
    put(warehouse, rows(), "one")
    facts = signature_facts(as_frame([{"event_time": NOON, "status": "failed", "error_message": "x"}], EXECUTION))
    load = Load(table=SIGNATURES, day=DAY, content="one", rows=1)
    replace_rows(warehouse, [(load, facts)], lambda _: True)
    downgrade(warehouse, "0001")
    upgrade(warehouse)
    assert count_of(warehouse) == 2
    counted = warehouse.read("select occurrence_count, reported_count from agentmill.failure_signatures_daily")
    assert counted.rows() == [(1, 1)]


def test_two_processes_may_upgrade_at_once(empty_database):
    threads = [threading.Thread(target=upgrade, args=[Warehouse(empty_database)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current_revision(Warehouse(empty_database)) == HEAD


def test_a_migration_that_fails_leaves_everything_as_it_was_and_readers_see_no_gap(warehouse, monkeypatch, tmp_path):
    def state():
        return warehouse.read(
            "select relname, c.oid from pg_class c join pg_namespace n on n.oid = relnamespace "
            "where nspname in ('agentmill', 'compat') order by 1"
        ).rows()

    def look_and_fail(*_):
        seen.append(state())
        raise RuntimeError("no migration")

    shutil.copytree(SQL_FOLDER, tmp_path / "sql")
    monkeypatch.setattr("pipelines.warehouse.migrations.SQL_FOLDER", tmp_path / "sql")
    later = f"""
from alembic import op
revision, down_revision = "later", "{HEAD}"
def upgrade():
    op.execute("create table agentmill.half_done (n int)")
    op.execute("select 1 / 0")
"""
    (tmp_path / "sql" / "migrations" / "versions" / "later.py").write_text(later)
    before, seen = state(), []
    with pytest.raises(DataError, match="division by zero"):
        upgrade(warehouse)
    assert state() == before
    with monkeypatch.context() as broken:
        broken.setattr("pipelines.warehouse.migrations._run_alembic", look_and_fail)
        with pytest.raises(RuntimeError):
            upgrade(warehouse)
    assert seen == [before]
    assert current_revision(warehouse) == HEAD


@pytest.mark.parametrize("kind", RECORD_TYPES.values(), ids=lambda kind: kind.name)
def test_a_table_of_records_is_their_contract(warehouse, kind):
    columns = warehouse.read(
        "select column_name, data_type from information_schema.columns "
        "where table_schema = 'agentmill' and table_name = %s",
        [kind.name],
    )
    assert {name: _POSTGRES_TYPES[dtype] for name, dtype in columns.rows()} == dict(kind.schema)


def test_every_view_is_one_select_that_says_its_grain_and_runs(warehouse):
    views = list((SQL_FOLDER / "views").glob("*.sql"))
    assert views
    for path in views:
        text = path.read_text()
        assert text.startswith("-- One row per "), path.name
        assert ";" not in "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")), path.name
        assert warehouse.read(f"select * from agentmill.{path.stem}").height == 0


def test_changed_views_are_applied_again(warehouse, monkeypatch, tmp_path):
    changed = tmp_path / "sql"
    (changed / "views").mkdir(parents=True)
    (changed / "migrations").symlink_to(SQL_FOLDER / "migrations")
    (changed / "roles.sql").symlink_to(SQL_FOLDER / "roles.sql")
    (changed / "views" / "later.sql").write_text("-- One row per thing.\nselect * from agentmill.earlier\n")
    (changed / "views" / "earlier.sql").write_text("-- One row per thing.\nselect 7 as n\n")
    monkeypatch.setattr("pipelines.warehouse.migrations.SQL_FOLDER", changed)
    upgrade(warehouse)
    assert warehouse.read("select n from agentmill.later").item() == 7
    left = warehouse.read("select viewname from pg_views where schemaname = 'agentmill'").to_series().to_list()
    assert sorted(left) == ["earlier", "later"]


def test_a_day_is_published_once_and_replaced_whole(warehouse):
    assert put(warehouse, rows(3), "one")
    assert not put(warehouse, rows(3), "one")
    assert put(warehouse, rows(1, status="failed"), "two")
    assert warehouse.read("select status from agentmill.executions").to_series().to_list() == ["failed"]
    ledger = warehouse.read("select day, content_sha256, row_count from agentmill.load_ledger").rows()
    assert ledger == [(DAY, "two", 1)]
    assert sweep_staging(warehouse) == []


def test_days_lie_in_months_and_an_empty_day_has_a_partition(warehouse):
    days = [date(2024, 12, 31), date(2025, 1, 1), date(2024, 2, 29)]
    for number, day in enumerate(days):
        put(warehouse, rows(number, day), f"{day}", day)
    names = warehouse.read("select tablename from pg_tables where schemaname = 'agentmill_partitions' order by 1")
    assert names.to_series().to_list() == [
        "executions_2024_02",
        "executions_2024_02_29",
        "executions_2024_12",
        "executions_2024_12_31",
        "executions_2025_01",
        "executions_2025_01_01",
    ]
    assert count_of(warehouse) == 3


def test_a_row_of_another_day_is_refused_and_the_old_day_stays(warehouse):
    put(warehouse, rows(2), "one")
    with pytest.raises(psycopg.errors.CheckViolation):
        put(warehouse, rows(2, date(2026, 3, 11)), "two")
    assert count_of(warehouse) == 2
    assert put(warehouse, rows(3), "three")


def test_fewer_rows_than_promised_are_refused(warehouse):
    load = Load(table="executions", day=DAY, content="one", rows=5)
    with pytest.raises(IncompleteLoadError, match="2 of 5 rows arrived"):
        publish_partition(warehouse, load, rows(2), lambda _: None)
    assert count_of(warehouse) == 0


@pytest.mark.parametrize(
    "broken", [{"cost_usd": "NaN"}, {"status": "limbo"}, {"duration_ms": -1}, {"cost_source": "provided"}], ids=str
)
def test_the_table_itself_refuses_what_would_poison_sums(warehouse, broken):
    columns = {"execution_id": "x", "source": "app", "row_hash": "0", "agent_id": "a", "agent_name": "a"}
    given = {
        **columns,
        "status": "success",
        "event_time": "2026-03-10",
        "cost_source": "unpriced",
        "quality_flags": "{}",
    }
    given |= broken
    put(warehouse, rows(1), "one")
    names, holes = ", ".join(given), ", ".join(["%s"] * len(given))
    with warehouse.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(f"insert into agentmill.executions ({names}) values ({holes})", list(given.values()))


def test_a_reader_in_the_way_neither_waits_for_ever_nor_sees_a_mixture(warehouse, monkeypatch):
    monkeypatch.setattr(publish, "_SWAP_ATTEMPTS", 2)
    put(warehouse, rows(3), "one")
    with warehouse.connect() as reader:
        reader.execute("begin isolation level repeatable read")
        assert reader.execute("select count(*) from agentmill.executions").fetchone() == (3,)
        put(warehouse, rows(5), "two")
        assert reader.execute("select count(*) from agentmill.executions").fetchone() == (3,)
        reader.execute("commit")
    assert count_of(warehouse) == 5
    assert put(warehouse, rows(4), "three")
    assert count_of(warehouse) == 4


def test_what_must_appear_together_appears_together_or_not_at_all(warehouse):
    def fail(connection):
        connection.execute("delete from agentmill.receipts_daily")
        raise RuntimeError("the receipts could not be written")

    put(warehouse, rows(1), "one")
    with pytest.raises(RuntimeError):
        put(warehouse, rows(2), "two", also=fail)
    assert count_of(warehouse) == 1
    assert put(warehouse, rows(2), "two")


def test_a_day_being_loaded_is_busy_and_names_its_holder(warehouse):
    with warehouse.connect() as other, loading(other, "executions", DAY):
        with pytest.raises(BusyError, match=r"executions of 2026-03-10 is being loaded by agentmill \(pid \d+"):
            put(warehouse, rows(), "one")
        assert put(warehouse, rows(day=date(2026, 3, 11)), "one", date(2026, 3, 11))
    assert put(warehouse, rows(), "one")


def test_what_a_killed_load_left_is_swept_unless_a_load_is_going_on(warehouse):
    with warehouse.connect() as connection:
        connection.execute("create table agentmill_staging.executions_2026_03_10 (n int)")
        connection.execute("create table agentmill_staging.executions_2026_03_11_replaced (n int)")
        connection.execute("create table agentmill_staging.somebody_elses (n int)")
        with loading(connection, "executions", DAY):
            assert sweep_staging(warehouse) == ["executions_2026_03_11_replaced"]
    assert sweep_staging(warehouse) == ["executions_2026_03_10"]


def test_small_tables_are_replaced_together(warehouse):
    metrics = pl.DataFrame({"day": [DAY], "signature_id": ["s"]})
    load = Load(table="failure_signatures_daily", day=DAY, content="one", rows=1)
    clusters = Load(table="failure_clusters", day=ALL_DAYS, content="one", rows=1)
    tables = [(clusters, pl.DataFrame({"cluster_id": ["c"]})), (load, metrics)]
    with pytest.raises(psycopg.errors.NotNullViolation):
        replace_rows(warehouse, tables, basis=lambda _: True)
    assert warehouse.read("select count(*) from agentmill.load_ledger").item() == 0


@pytest.fixture
def published(source, lake, key, prices, warehouse, write_log):
    """Write records and take them all the way into the table; returns the publication."""

    def run(*records, **overrides):
        write_log(*records)
        extract(source(**overrides), [DAY], lake, datetime(2026, 3, 12, tzinfo=UTC))
        clean(DAY, [source(**overrides)], lake, key, prices)
        validate(DAY, [source(**overrides)], lake, prices)
        return publish_records(EXECUTIONS, DAY, lake, warehouse)

    return run


def test_a_good_day_is_published_with_its_receipts(published, record, lake, warehouse):
    told = published(record(), record(), record(status="x", state="broken?"), max_quarantine_share=0.5)
    assert (told.outcome, told.rows) == ("published", 2)
    receipt = warehouse.read("select received_count, clean_count, quarantined_count from agentmill.receipts_daily")
    assert receipt.row(0) == (3, 2, 1)
    assert account(DAY, lake, warehouse).is_published


def test_a_bad_day_is_blocked_and_everything_old_stays(published, record, lake, warehouse):
    published(record(), record())
    told = published(record(), "{broken", "{broken too")
    assert told.outcome == "blocked"
    assert "quarantine_share" in told.reasons[0]
    assert count_of(warehouse) == 2
    assert warehouse.read("select quarantined_count from agentmill.receipts_daily").item() == 0
    assert not account(DAY, lake, warehouse).is_published
    assert account(DAY, lake, warehouse).blocked_by == told.reasons


def test_the_same_records_again_change_nothing(published, record):
    once = record()
    assert published(once).outcome == "published"
    assert published(once).outcome == "unchanged"


def test_a_day_that_nobody_judged_is_not_published(source, lake, key, prices, warehouse, write_log, record):
    write_log(record())
    extract(source(), [DAY], lake, datetime(2026, 3, 12, tzinfo=UTC))
    clean(DAY, [source()], lake, key, prices)
    assert publish_records(EXECUTIONS, DAY, lake, warehouse).outcome == "blocked"
    assert account(DAY, lake, warehouse).blocked_by == ["the day was not validated"]


def test_texts_of_any_kind_arrive_as_they_were(published, record, warehouse):
    agent = "x'); drop table agentmill.executions; -- \\N \t \u2028 \U0001f916"
    published(record(agent=agent, error='line\nbreak, "quote", \\', state="failed"))
    stored = warehouse.read("select agent_name, error_message from agentmill.executions").row(0)
    assert stored == (agent, 'line\nbreak, "quote", \\')


@pytest.mark.parametrize(
    "question",
    [
        "delete from agentmill.executions",
        "select 1; select 2",
        "create table t (n int)",
        "set role postgres; select 1",
        "select pg_read_file('/etc/hostname')",
        "copy (select 1) to program 'true'",
        "select * from agentmill_staging.nothing",
    ],
)
def test_a_question_only_reads(warehouse, question):
    with pytest.raises(psycopg.Error), ask(warehouse, question) as answer:
        list(answer.rows)


def test_a_question_that_takes_too_long_ends(warehouse):
    with pytest.raises(psycopg.errors.QueryCanceled), ask(warehouse, "select pg_sleep(60)", 1) as answer:
        list(answer.rows)


def test_a_question_is_asked_as_the_analyst_unless_another_reader_is_named(warehouse):
    put(warehouse, rows(2), "one")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), ask(warehouse, "select user_key from executions"):
        pass
    with ask(warehouse, "select user_key from executions", role=ONCALL) as answer:
        assert list(answer.rows) == [(None,), (None,)]
    with ask(warehouse, "select current_user, count(*) from executions") as answer:
        assert list(answer.rows) == [("agentmill_analyst", 2)]


def test_an_answer_becomes_csv_that_no_spreadsheet_runs(warehouse):
    out = io.StringIO()
    with ask(warehouse, "select '=1+1' as a, -5 as b, null as c, 'x' as d, '@f' as e") as answer:
        write_csv(answer, out)
    assert out.getvalue() == "a,b,c,d,e\n'=1+1,-5,,x,'@f\n"


def test_an_answer_becomes_json(warehouse):
    out = io.StringIO()
    with ask(
        warehouse,
        "select n, 'é' as t, 0.5 as x, '2026-03-10 12:00Z'::timestamptz as at from generate_series(1, 2) as n",
    ) as answer:
        write_json(answer, out)
    row = {"t": "é", "x": 0.5, "at": "2026-03-10T12:00:00+00:00"}
    assert json.loads(out.getvalue()) == [{"n": 1, **row}, {"n": 2, **row}]


def test_columns_of_one_name_are_told_apart(warehouse):
    with ask(warehouse, "select 1 as n, 2 as n, 3 as m, 4 as n") as answer:
        assert answer.columns == ["n", "n_2", "m", "n_3"]


def test_the_password_is_never_shown():
    for url in ("postgresql://user:hunter2@db/x", "postgresql://user@db/x?password=hunter2"):
        warehouse = Warehouse(url)
        assert "hunter2" not in f"{warehouse!r} {warehouse.name}"
    assert "hunter2" in warehouse.libpq_url
