"""Tables as sources, on real servers: every type and trap arrives, days are exact, and the source's count agrees."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from conftest import DAY, NOW
from psycopg import sql

from pipelines.clean import clean_records
from pipelines.extract import ExtractionError, PassingError, extract, raw_dataset
from pipelines.sources.database import DatabaseSource, Table

MAPPING = {"execution_id": "id", "agent_name": "agent", "status": "state", "started_at": "started"}


def source_of(database, mapping=None, **overrides):
    given = {"name": "app", "kind": "database", "url": database.url, "table": "runs", "mapping": mapping or MAPPING}
    if "query" in overrides:
        del given["table"]
    return DatabaseSource.model_validate({**given, **overrides})


def executions(source, lake, key, day=DAY):
    receipt = extract(source, [day], lake, NOW)[day]
    return clean_records((lake.read(part) for part in receipt.parts), source, key, NOW, day)


def make_runs(database, *rows, columns="id int, agent varchar(20), state varchar(20), started timestamp null"):
    values = [f"insert into runs values ({', '.join(row)})" for row in rows]
    database.run(f"create table runs ({columns})", *values)


def test_a_day_is_half_open_and_counted_by_the_source(database, lake):
    times = ["2026-03-09 23:59:59", "2026-03-10 00:00:00", "2026-03-10 23:59:59", "2026-03-11 00:00:00"]
    make_runs(database, *((f"{n}", "'a'", "'success'", f"'{at}'") for n, at in enumerate(times)))
    days = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]
    receipts = extract(source_of(database), days, lake, NOW)
    assert [receipts[day].rows for day in days] == [1, 2, 1]
    assert [receipts[day].inputs[0].records for day in days] == [1, 2, 1]
    ids = [lake.read(part)["record"].struct.field("id").to_list() for part in receipts[DAY].parts]
    assert sorted(ids[0]) == [1, 2]


def test_an_empty_day_is_read_and_not_missing(database, lake):
    make_runs(database)
    receipt = extract(source_of(database), [DAY], lake, NOW)[DAY]
    assert (receipt.rows, len(receipt.inputs), receipt.inputs[0].records) == (0, 1, 0)


def test_rows_that_no_day_can_hold_are_counted(database, lake):
    make_runs(
        database,
        ("1", "'a'", "'success'", "null"),
        ("2", "'a'", "'success'", "'1999-12-31 10:00:00'"),
        ("3", "'a'", "'success'", "'2026-04-01 10:00:00'"),
        ("4", "'a'", "'success'", "'2026-03-10 10:00:00'"),
    )
    assert extract(source_of(database), [DAY], lake, NOW)[DAY].unplaced == 3


def test_a_second_time_dates_rows_that_lack_the_first(database, lake, key):
    columns = "id int, agent varchar(20), state varchar(20), started timestamp null, ended timestamp null"
    make_runs(
        database,
        ("1", "'a'", "'success'", "null", "'2026-03-10 10:00:00'"),
        ("2", "'a'", "'success'", "'2026-03-09 10:00:00'", "'2026-03-10 10:00:00'"),
        columns=columns,
    )
    source = source_of(database, {**MAPPING, "completed_at": "ended"})
    assert executions(source, lake, key).rows["execution_id"].to_list() == ["1"]


def test_local_times_are_dated_in_their_zone_also_when_clocks_change(database, lake):
    at = "2026-03-29 {}"  # Berlin: 23 hours; the day begins at 23:00 UTC of the 28th
    hours = ["00:30:00", "01:30:00", "03:30:00", "23:30:00"]
    column = "timestamp" if hasattr(database, "name") is False else "datetime"
    make_runs(
        database,
        *((f"{n}", "'a'", "'success'", f"'{at.format(hour)}'") for n, hour in enumerate(hours)),
        columns=f"id int, agent varchar(20), state varchar(20), started {column}",
    )
    source = source_of(database, timezone="Europe/Berlin")
    days = [date(2026, 3, 28), date(2026, 3, 29)]
    receipts = extract(source, days, lake, datetime.fromisoformat("2026-04-02T00:00:00+00:00"))
    assert [receipts[day].rows for day in days] == [1, 3]


def test_numbers_since_1970_are_times_too(database, lake, key):
    make_runs(
        database,
        ("1", "'a'", "'success'", "1773136800000"),
        ("2", "'a'", "'success'", "1773100800000"),
        columns="id int, agent varchar(20), state varchar(20), started bigint",
    )
    source = source_of(database, {**MAPPING, "started_at": {"from": "started", "unit": "ms"}})
    started = executions(source, lake, key).rows["started_at"].dt.hour()
    assert sorted(started) == [0, 10]
    with pytest.raises(ExtractionError, match="`unit`"):
        extract(source_of(database), [DAY], lake, NOW)


def test_mysql_types_arrive_without_loss(mariadb, lake, key):
    mariadb.run(
        "create table runs (id bigint unsigned, agent enum('planner', 'coder'), state varchar(20),"
        " started datetime(3), ended datetime, cost decimal(20, 12), tokens int unsigned, http smallint,"
        " ok tinyint(1), note longtext, payload json, seen timestamp null, raw varbinary(10))",
        "insert into runs values (18446744073709551615, 'coder', 'failed', '2026-03-10 10:00:00.123', "
        "'0000-00-00 00:00:00', 12345678.123456789012, 4000000000, 502, 1, 'a\\0b', '{\"a\": [1]}', "
        "'2026-03-10 10:00:01', x'00ff')",
    )
    mapping = {
        **MAPPING,
        "completed_at": "ended",
        "cost_usd": "cost",
        "input_tokens": "tokens",
        "http_status": "http",
        "error_message": "note",
        "input": "payload",
    }
    done = executions(source_of(mariadb, mapping), lake, key)
    row = done.rows.row(0, named=True)
    assert row["execution_id"] == "18446744073709551615"
    assert f"{row['cost_usd']}" == "12345678.1234567890"
    assert (row["input_tokens"], row["http_status"], row["agent_name"]) == (4_000_000_000, 502, "coder")
    assert row["started_at"].isoformat() == "2026-03-10T10:00:00.123000+00:00"
    assert row["completed_at"] is None
    assert row["quality_flags"] == ["text_repaired", "zero_date"]
    assert row["input_shape"] is not None


def test_a_timestamp_of_mysql_is_read_in_utc_whatever_the_server_thinks(mariadb, lake, key):
    mariadb.run(
        "set time_zone = '+05:00'",
        "create table runs (id int, agent text, state text, started timestamp null, ended timestamp null)",
        "insert into runs values (1, 'a', 'success', '2026-03-10 02:00:00', '2026-03-10 02:00:07')",
    )
    for mapping in (MAPPING, {**MAPPING, "completed_at": "ended"}):
        source = source_of(mariadb, mapping, timezone="America/New_York")
        row = executions(source, lake, key, date(2026, 3, 9)).rows.row(0, named=True)
        assert row["started_at"].isoformat() == "2026-03-09T21:00:00+00:00"
    assert row["duration_ms"] == 7_000


def test_postgres_types_arrive_without_loss(postgres, lake, key):
    postgres.run(
        "create type agent as enum ('planner', 'coder')",
        "create table runs (id uuid, agent agent, state text, started timestamptz, ended timestamptz, cost numeric, "
        "tools text[], payload jsonb, ok bool, ip inet, huge numeric)",
        "insert into runs values ('9f8b1b0e-0000-4000-8000-000000000001', 'coder', 'failed', '2026-03-10 10:00+05', "
        "'infinity', 12345678.123456789012, array['b', 'a'], '{\"a\": [1]}', true, '10.1.2.3', 'NaN')",
        "insert into runs values ('9f8b1b0e-0000-4000-8000-000000000002', 'coder', 'success', '2026-03-10 05:00Z', "
        "'2026-03-10 05:00:03.5Z', 'NaN', array['b', 'a'], null, true, '10.1.2.3', 1e30)",
    )
    mapping = {**MAPPING, "completed_at": "ended", "cost_usd": "cost", "tool_names": "tools", "client_ip": "ip"}
    done = executions(source_of(postgres, mapping), lake, key)
    assert done.quarantine["reason"].to_list() == ["bad_timestamp"]
    row = done.rows.row(0, named=True)
    assert row["execution_id"].endswith("02")
    assert (row["cost_usd"], row["tool_names"], row["client_ip_prefix"]) == (None, ["a", "b"], "10.1.2.0/24")
    assert row["duration_ms"] == 3_500
    assert row["quality_flags"] == ["not_a_number"]


def test_names_of_columns_and_tables_are_only_names(postgres, lake):
    odd = 'we"ird; drop table runs; --'
    quoted = sql.Identifier(odd).as_string(None)
    postgres.run(
        f'create schema "Odd Schema"; create table "Odd Schema"."Runs" (id int, {quoted} text, "Started" timestamptz)',
        """insert into "Odd Schema"."Runs" values (1, 'x', '2026-03-10 10:00Z')""",
    )
    mapping = {"agent_name": {"value": "a"}, "status": {"value": "success"}, "started_at": "Started"}
    receipt = extract(source_of(postgres, mapping, table="Odd Schema.Runs"), [DAY], lake, NOW)[DAY]
    assert lake.read(receipt.parts[0])["record"].struct.field(odd).to_list() == ["x"]


def test_a_query_is_a_source_like_a_table(database, lake):
    make_runs(
        database,
        ("1", "'a'", "'success'", "'2026-03-10 10:00:00'"),
        ("2", "'b'", "'success'", "'2026-03-10 10:00:00'"),
    )
    source = source_of(database, query="select * from runs where agent like 'b%';")
    assert extract(source, [DAY], lake, NOW)[DAY].rows == 1


def test_json_in_a_column_is_reached_into(database, lake, key):
    kind = "json" if hasattr(database, "name") else "jsonb"
    make_runs(
        database,
        ("1", "'a'", "'success'", "'2026-03-10 10:00:00'", """'{"usage": {"input": 12}, "tags": ["x", "y"]}'"""),
        ("2", "'a'", "'success'", "'2026-03-10 11:00:00'", "null"),
        columns=f"id int, agent varchar(20), state varchar(20), started timestamp null, meta {kind}",
    )
    source = source_of(database, {**MAPPING, "input_tokens": "meta.usage.input", "execution_type": "meta.tags[1]"})
    rows = executions(source, lake, key).rows
    assert rows["input_tokens"].to_list() == [12, None]
    assert rows["execution_type"].to_list() == ["y", None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"table": "nothing"}, "nothing"),
        ({"mapping": {**MAPPING, "started_at": "begun"}}, "no column `begun`"),
        ({"mapping": {**MAPPING, "started_at": "agent"}}, "neither a time nor a number"),
        ({"query": "select 1 from"}, "cannot be read"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_read_is_said_and_nothing_changes(database, lake, change, said):
    make_runs(database)
    with pytest.raises(ExtractionError, match=said) as told:
        extract(source_of(database, **change), [DAY], lake, NOW)
    assert not isinstance(told.value, PassingError)
    assert lake.days(raw_dataset("app")) == []


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_does_not_answer_may_answer_another_time(lake, scheme):
    url = f"{scheme}://u:p@127.0.0.1:1/x"
    with pytest.raises(PassingError):
        extract(source_of(type("Nobody", (), {"url": url})), [DAY], lake, NOW)


def test_a_server_that_lets_nobody_in_is_not_asked_again(database, lake):
    unknown = sa.make_url(database.url).set(database="agentmill_nobody_made_this").render_as_string(hide_password=False)
    with pytest.raises(ExtractionError) as told:
        extract(source_of(type("Refusing", (), {"url": unknown})), [DAY], lake, NOW)
    assert not isinstance(told.value, PassingError)


def test_a_connection_that_is_ended_while_it_is_read_may_go_well_another_time(database, lake):
    if hasattr(database, "name"):
        pytest.skip("a query of MySQL cannot end its own connection")
    make_runs(database, ("1", "'a'", "'success'", "'2026-03-10 10:00:00'"))
    ended = "(select pg_terminate_backend(pg_backend_pid()))::text"
    query = f"select id, agent || {ended} as agent, state, started from runs"
    with pytest.raises(PassingError):
        extract(source_of(database, query=query), [DAY], lake, NOW)


def test_a_password_is_never_told(lake):
    for url in ("postgresql://u:hunter2@127.0.0.1:1/x", "mysql://u:hunter2@127.0.0.1:1/x"):
        source = DatabaseSource.model_validate(
            {"name": "app", "kind": "database", "url": url, "table": "runs", "mapping": MAPPING}
        )
        assert "hunter2" not in f"{source!r} {source.location}"
        with pytest.raises(ExtractionError) as told:
            extract(source, [DAY], lake, NOW)
        assert "hunter2" not in f"{told.value}"


def test_a_socket_is_read_through_the_driver(empty_database, lake):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create table runs (id int, agent text, state text, started timestamptz, cost numeric)")
        connection.execute(
            "insert into runs values (1, 'a', 'success', '2026-03-10 10:00Z', 1.5), (2, 'b', 'x', null, 1)"
        )
    database = type("Embedded", (), {"url": empty_database})
    receipt = extract(source_of(database), [DAY], lake, NOW)[DAY]
    assert (receipt.rows, receipt.unplaced) == (1, 1)


def test_a_sample_needs_no_time(database):
    make_runs(database, ("1", "'a'", "'success'", "null"))
    assert Table(source_of(database)).sample(10).height == 1


def test_an_hour_that_clocks_skip_is_quarantined_on_the_day_it_names(database, lake, key):
    column = "datetime" if hasattr(database, "name") else "timestamp"
    make_runs(
        database,
        ("1", "'a'", "'success'", "'2026-03-29 02:30:00'"),
        columns=f"id int, agent varchar(20), state varchar(20), started {column}",
    )
    source = source_of(database, timezone="Europe/Berlin")
    days = [date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30)]
    now = datetime.fromisoformat("2026-04-02T00:00:00+00:00")
    receipts = extract(source, days, lake, now)
    assert [receipts[day].rows for day in days] == [0, 1, 0]
    parts = [lake.read(part) for part in receipts[days[1]].parts]
    assert clean_records(parts, source, key, now, days[1]).quarantine["reason"].to_list() == ["bad_timestamp"]


def test_dates_that_are_partly_zero_hold_up_no_other_day_and_no_sample(mariadb, lake):
    make_runs(
        mariadb,
        ("1", "'a'", "'success'", "'2026-03-00 00:00:00'"),
        ("2", "'a'", "'success'", "'2026-02-28 10:00:00'"),
        ("3", "'a'", "'success'", "'0000-00-00 00:00:00'"),
        columns="id int, agent varchar(20), state varchar(20), started datetime",
    )
    day = date(2026, 2, 28)
    receipt = extract(source_of(mariadb), [day], lake, NOW)[day]
    assert (receipt.rows, receipt.unplaced) == (1, 2)
    assert Table(source_of(mariadb)).sample(10).height == 3


@pytest.mark.parametrize(
    ("day", "zeros"),
    [(date(2026, 2, 28), "2026-03-00"), (date(2025, 12, 31), "2026-00-15"), (date(2025, 12, 31), "2026-00-00")],
    ids=str,
)
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "Pacific/Honolulu"])
@pytest.mark.parametrize("kind", ["datetime(6)", "date"])
def test_a_date_of_some_zeros_beside_real_ones_is_of_no_day(mariadb, lake, day, zeros, timezone, kind):
    make_runs(
        mariadb,
        ("1", "'a'", "'success'", f"'{zeros}'"),
        ("2", "'a'", "'success'", f"'{day}'"),
        ("3", "'a'", "'success'", f"'{day} 23:59:59.999999'"),
        columns=f"id int, agent varchar(20), state varchar(20), started {kind}",
    )
    days = [day - timedelta(days=1), day, day + timedelta(days=1)]
    receipts = extract(source_of(mariadb, timezone=timezone), days, lake, NOW)
    assert sum(receipt.rows for receipt in receipts.values()) == 2
    assert receipts[day].unplaced == 1


@pytest.mark.parametrize("kind", ["datetime", "timestamp"])
@pytest.mark.parametrize("digits", [0, 1, 3, 6])
def test_fractions_of_a_second_arrive_as_the_server_holds_them(mariadb, lake, kind, digits):
    at = ["00:00:00", "00:00:00.000001", "10:00:00.1", "10:00:00.123456", "23:59:59.999999"]
    make_runs(
        mariadb,
        *((f"{n}", "'a'", "'success'", f"'{DAY} {one}'") for n, one in enumerate(at)),
        columns=f"id int, agent varchar(20), state varchar(20), started {kind}({digits}) null",
    )
    receipt = extract(source_of(mariadb), [DAY], lake, NOW)[DAY]
    started = lake.read(receipt.parts[0])["record"].struct.field("started")
    held = [datetime.fromisoformat(text) for (text,) in mariadb.run("select cast(started as char) from runs")]
    assert sorted(started.dt.replace_time_zone(None)) == sorted(held)
    assert len(set(held)) == {0: 3, 1: 3, 3: 4, 6: 5}[digits]


_KINDS = ["timestamptz", "timestamp", "date", "datetime(6)", "timestamp(6) null"]
_MOMENTS = ["00:00:00", "00:00:00.000001", "12:00:00.123456", "23:59:59.999999"]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("mapping", [MAPPING, {**MAPPING, "completed_at": "ended"}], ids=["one time", "two times"])
def test_rows_dated_by_the_statement_are_those_dated_by_reading_their_times(
    request, lake, key, monkeypatch, kind, mapping
):
    is_mysql = kind in _KINDS[3:]
    database = request.getfixturevalue("mariadb" if is_mysql else "postgres")
    days = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]
    times = ["null", *(f"'{day} {moment}'" for day in days for moment in _MOMENTS), "'1999-12-31 10:00:00'"]
    times += ["'0000-00-00 00:00:00'"] if is_mysql else ["'infinity'", "'-infinity'"]
    pairs = [(first, second) for first in times for second in times]
    make_runs(
        database,
        *((f"{n}", "'a'", "'success'", first, second) for n, (first, second) in enumerate(pairs)),
        columns=f"id int, agent varchar(20), state varchar(20), started {kind}, ended {kind}",
    )
    source = source_of(database, mapping)
    assert Table(source).dates_exactly
    dated = [executions(source, lake, key, day) for day in days]
    as_text = Table._selected
    monkeypatch.setattr(Table, "_selected", lambda table, **_: as_text(table, are_dated=False))
    monkeypatch.setattr(Table, "dates_exactly", False)
    read = [executions(source, lake, key, day) for day in days]
    for one, other in zip(dated, read, strict=True):
        assert one.rows.height
        assert one.rows.drop("row_hash").sort("execution_id").equals(other.rows.drop("row_hash").sort("execution_id"))
        assert sorted(one.quarantine["reason"]) == sorted(other.quarantine["reason"])


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("timestamp", {"timezone": "Europe/Berlin"}),
        ("bigint", {"mapping": {**MAPPING, "started_at": {"from": "started", "unit": "s"}}}),
    ],
    ids=["another zone", "numbers"],
)
def test_times_that_the_mapping_gives_another_meaning_are_read_to_date_their_rows(postgres, kind, overrides):
    make_runs(postgres, columns=f"id int, agent text, state text, started {kind}, ended {kind}")
    assert not Table(source_of(postgres, **overrides)).dates_exactly


@pytest.mark.parametrize(
    "mapping",
    [
        {"started_at": {"from": "started", "null_if": ["2026-03-10 00:00:00"]}},
        {"started_at": "coalesce(started, ended)", "completed_at": "ended"},
        {"completed_at": "coalesce(ended, started)"},
        {"started_at": "meta.started"},
        {"started_at": {"value": "2026-03-10"}},
    ],
    ids=str,
)
def test_times_that_the_database_cannot_be_asked_for_are_refused(postgres, mapping):
    with pytest.raises(ValueError, match="to a column as it is: the database is asked for days by it"):
        source_of(postgres, {**MAPPING, **mapping})


def test_a_time_in_the_future_stays_on_its_day_whatever_the_second_time_says(database, lake, key):
    columns = "id int, agent varchar(20), state varchar(20), started timestamp null, ended timestamp null"
    make_runs(database, ("1", "'a'", "'success'", "'2026-03-12 10:00:00'", "'2026-03-10 10:00:00'"), columns=columns)
    source = source_of(database, {**MAPPING, "completed_at": "ended"})
    assert executions(source, lake, key, NOW.date()).quarantine["reason"].to_list() == ["timestamp_out_of_range"]


def test_a_sample_holds_times_that_no_day_can(postgres):
    make_runs(
        postgres,
        ("1", "'a'", "'success'", "'infinity'"),
        columns="id int, agent text, state text, started timestamptz",
    )
    assert Table(source_of(postgres)).sample(10)["started"].to_list() == ["infinity"]


@pytest.mark.parametrize("end", ["; -- done", " -- all of them", ";\n-- one\n-- two\n"])
def test_a_query_may_end_in_a_comment(database, lake, end):
    make_runs(database, ("1", "'a'", "'success'", "'2026-03-10 10:00:00'"))
    assert extract(source_of(database, query=f"select * from runs{end}"), [DAY], lake, NOW)[DAY].rows == 1


def test_two_columns_of_one_name_are_told(postgres, lake):
    make_runs(postgres)
    with pytest.raises(ExtractionError, match="two columns of one name: id"):
        extract(source_of(postgres, query="select *, 1 as id from runs"), [DAY], lake, NOW)


def test_options_of_a_url_are_no_obstacle_and_a_password_among_them_is_not_told(database, lake):
    make_runs(database, ("1", "'a'", "'success'", "'2026-03-10 10:00:00'"))
    option = "charset=utf8mb4" if hasattr(database, "name") else "password=hunter2"
    source = source_of(database, url=f"{database.url}?{option}")
    receipt = extract(source, [DAY], lake, NOW)[DAY]
    assert receipt.rows == 1
    assert "hunter2" not in receipt.model_dump_json()


def test_a_server_in_another_zone_counts_in_utc(mariadb, lake):
    make_runs(mariadb, ("1", "'a'", "'success'", "'2026-03-10 10:00:00'"))
    with pymysql.connect(host="127.0.0.1", user="root", autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("select @@global.time_zone")
        (before,) = cursor.fetchone()
        cursor.execute("set global time_zone = '-12:00'")
        try:
            receipt = extract(source_of(mariadb), [DAY], lake, datetime.fromisoformat("2026-03-10T23:30:00+00:00"))[DAY]
        finally:
            cursor.execute("set global time_zone = %s", [before])
    assert (receipt.rows, receipt.unplaced) == (1, 0)


def test_the_31st_of_a_shorter_month_holds_up_no_day(mariadb, lake):
    make_runs(mariadb, columns="id int, agent varchar(20), state varchar(20), started datetime")
    mariadb.run(
        "set sql_mode = 'allow_invalid_dates'",
        "insert into runs values (1, 'a', 'success', '2026-02-31 10:00:00'),"
        " (2, 'a', 'success', '2026-02-28 10:00:00')",
    )
    day = date(2026, 2, 28)
    receipt = extract(source_of(mariadb), [day], lake, NOW)[day]
    assert (receipt.rows, receipt.unplaced) == (1, 1)


@pytest.mark.parametrize("kind", ["real", "numeric(20, 3)"])
def test_a_cost_has_the_digits_that_the_source_has(postgres, lake, key, kind):
    columns = f"id int, agent text, state text, started timestamptz, cost {kind}"
    make_runs(postgres, ("1", "'a'", "'success'", "'2026-03-10 10:00Z'", "0.1"), columns=columns)
    row = executions(source_of(postgres, {**MAPPING, "cost_usd": "cost"}), lake, key).rows.row(0, named=True)
    assert row["cost_usd"] == Decimal("0.1")


@pytest.mark.parametrize("kind", ["bigint unsigned", "decimal(20, 3)"])
def test_numbers_of_any_kind_may_date_rows(mariadb, lake, key, kind):
    columns = f"id int, agent varchar(20), state varchar(20), started {kind}"
    make_runs(mariadb, ("1", "'a'", "'success'", "1773136800000"), columns=columns)
    source = source_of(mariadb, {**MAPPING, "started_at": {"from": "started", "unit": "ms"}})
    assert executions(source, lake, key).rows["started_at"].dt.hour().to_list() == [10]


def test_a_url_as_prisma_writes_it_is_refused_with_the_mend(postgres):
    with pytest.raises(ValueError, match="remove Prisma's schema from it"):
        source_of(postgres, url="postgresql://app@db/app?schema=public")
