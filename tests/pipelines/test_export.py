import csv
import json
from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest

from pipelines.warehouse import export as exporting
from pipelines.warehouse.dictionary import Definition, Dictionary, Relation, load_dictionary
from pipelines.warehouse.export import ExportError, export
from pipelines.warehouse.roles import ANALYST, ONCALL, PRIVACY, READS

DAYS = [date(2026, 3, 10) + timedelta(days=n) for n in range(3)]
COST = Decimal("12345678901234567890.0123456789")


def relation_of(name, **columns):
    defined = {column: Definition(type=kind, meaning="x") for column, kind in columns.items()}
    return Relation(schema="agentmill", name=name, is_view=True, grain="x", use="", columns=defined)


@pytest.fixture
def filled(warehouse):
    with warehouse.connect() as connection:
        connection.execute(
            "insert into agentmill.execution_rollup_hourly (day, hour, agent_id, status, execution_count, "
            "duration_count, priced_count, cost_usd, metered_count, cache_read_count, credited_count) "
            "select day, day + case agent when 'a' then interval '0' else interval '23:30' end, agent, 'success', "
            "7, 0, 1, %s, 0, 0, 0 "
            "from unnest(%s::date[]) as day, unnest(array['a', '=cmd()', 'ü, \"x\"']) as agent",
            [COST, DAYS],
        )
        connection.execute(
            "insert into agentmill.failure_clusters select 'c', 't', 'unknown', 'low', 'agent', '{s,\"=t\"}', 1, 1, 1, "
            "now(), now(), '{a}', '{}', '{}', 'm', '{}', 1"
        )
        connection.execute(
            "insert into agentmill.receipts_daily values ('2026-03-10', 'app', 5, 3, 2, 0, 0, '{\"torn\": 2}', 1, 0, 0)"
        )
    return warehouse


def test_every_format_holds_the_same_rows(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_BATCH_ROWS", 2)
    written, name = {}, "execution_rollup_hourly"
    for form in ("csv", "json", "parquet"):
        seen = []
        done = export(filled, name, form, tmp_path / f"x.{form}", progress=seen.append)
        assert (done.rows, done.left_out, done.hidden_rows) == (9, [], 0)
        assert seen == [2, 4, 6, 8, 9]
        written[form] = done.path
    with written["csv"].open(newline="") as lines:
        of_csv = list(csv.DictReader(lines))
    of_json, of_parquet = json.loads(written["json"].read_text()), pq.read_table(written["parquet"]).to_pylist()
    expected = sorted((f"{day}", agent) for day in DAYS for agent in ("a", "=cmd()", 'ü, "x"'))
    assert sorted((row["day"], row["agent_id"].removeprefix("'")) for row in of_csv) == expected
    assert sorted((row["day"], row["agent_id"]) for row in of_json) == expected
    assert sorted((f"{row['day']}", row["agent_id"]) for row in of_parquet) == expected
    assert {row["agent_id"][0] for row in of_csv} == {"a", "'", "ü"}
    assert {row["cost_usd"] for row in of_csv} == {str(COST)}
    assert sorted(tmp_path.iterdir()) == sorted(written.values())


def test_parquet_keeps_types_exactly(filled, tmp_path):
    name = "execution_rollup_hourly"
    path = export(filled, name, "parquet", tmp_path / "x.parquet").path
    frame = pl.read_parquet(path)
    assert frame.schema["cost_usd"] == pl.Decimal(38, 10)
    assert frame.schema["hour"] == pl.Datetime("us", "UTC")
    assert (frame.schema["day"], frame.schema["execution_count"]) == (pl.Date, pl.Int64)
    assert frame["cost_usd"].unique().to_list() == [COST]
    clusters = pl.read_parquet(export(filled, "failure_clusters", "parquet", tmp_path / "y.parquet").path)
    assert clusters["signature_ids"].to_list() == [["s", "=t"]]
    receipts = pl.read_parquet(export(filled, "receipts_daily", "parquet", tmp_path / "z.parquet").path)
    assert json.loads(receipts["quarantined_by_reason"].item()) == {"torn": 2}


def test_a_quotient_has_eighteen_places_and_an_empty_view_its_columns(filled, tmp_path):
    empty = pl.read_parquet(export(filled, "agent_performance", "parquet", tmp_path / "x.parquet").path)
    assert empty.height == 0
    assert empty.schema["cost_per_run_usd"] == pl.Decimal(38, 18)
    with filled.connect() as connection:
        connection.execute(
            "insert into agentmill.agent_metrics_daily (day, agent_id, agent_name, execution_count, success_count, "
            "partial_count, failed_count, timeout_count, error_count, cancelled_count, failure_count, user_count, "
            "identified_count, duration_count, priced_count, unpriced_count, cost_usd, metered_count, "
            "cache_read_count, credited_count) values ('2026-03-10', 'a', 'a', 3,3,0,0,0,0,0,0,0,0,0,3,0,0.00002,0,0,0)"
        )
    told = pl.read_parquet(export(filled, "agent_performance", "parquet", tmp_path / "x.parquet").path)
    assert told["cost_per_run_usd"].to_list() == [Decimal("0.000006666666666667")]


def test_a_large_quotient_is_kept_and_one_that_does_not_fit_is_told(filled, tmp_path, monkeypatch):
    known = load_dictionary()
    added = {("agentmill", "many"): relation_of("many", n="numeric")}
    monkeypatch.setattr(exporting, "load_dictionary", lambda: Dictionary({**known.relations, **added}, known.functions))
    with filled.connect() as connection:
        connection.execute("create table agentmill.many (n numeric)")
        connection.execute(f"grant select on agentmill.many to {ANALYST}")
        connection.execute("insert into agentmill.many values (12345678901.5), (99999999999999999999.1), (null)")
    path = tmp_path / "x.parquet"
    kept = pl.read_parquet(export(filled, "many", "parquet", path).path)["n"].to_list()
    assert kept == [Decimal("12345678901.5"), Decimal("99999999999999999999.1"), None]
    for beyond in ("1e20", "NaN", "Infinity"):
        with filled.connect() as connection:
            connection.execute("truncate agentmill.many")
            connection.execute("insert into agentmill.many values (%s)", [beyond])
        with pytest.raises(ExportError, match="n holds "):
            export(filled, "many", "parquet", path)


def test_whatever_has_a_time_can_be_cut_by_days(filled, tmp_path):
    timed = [
        relation.shown_name
        for relation in load_dictionary().relations.values()
        if relation.schema == "compat" or {"week", "cohort_week"} & relation.columns.keys()
    ]
    untimed = []
    for name in timed:
        try:
            export(filled, name, "csv", tmp_path / "x.csv", first=DAYS[0], end=DAYS[1], role=PRIVACY)
        except ExportError:
            untimed.append(name)
    assert "user_retention_weekly" in timed
    assert untimed == ["compat.Agent"]


@pytest.mark.parametrize(("name", "end_of_first"), [("execution_rollup_hourly", 3), ("hourly_only", 3)])
def test_days_are_half_open_and_utc(filled, tmp_path, monkeypatch, name, end_of_first):
    known = load_dictionary()
    with filled.connect() as connection:
        connection.execute("create view agentmill.hourly_only as select hour from agentmill.execution_rollup_hourly")
        connection.execute(f"grant select on agentmill.hourly_only to {ANALYST}")
        connection.execute(f"alter database {connection.info.dbname} set timezone = 'Asia/Kathmandu'")
    hourly = relation_of("hourly_only", hour="timestamptz")
    added = Dictionary({**known.relations, ("agentmill", "hourly_only"): hourly}, known.functions)
    monkeypatch.setattr(exporting, "load_dictionary", lambda: added)

    def rows(**days):
        return export(filled, name, "csv", tmp_path / "x.csv", **days).rows

    assert rows(first=DAYS[0], end=DAYS[1]) == end_of_first
    assert rows(first=DAYS[1]) == 6
    assert rows(end=DAYS[0]) == 0
    assert rows() == 9


def test_what_has_no_day_cannot_be_cut_by_days(filled, tmp_path):
    with pytest.raises(ExportError, match="failure_clusters has none of the columns day, event_time, hour"):
        export(filled, "failure_clusters", "csv", tmp_path / "x.csv", first=DAYS[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["nothing", "erased_users", "agentmill_partitions.x", "pg_authid", "executions; drop table x", ""]
)
def test_what_is_not_published_to_the_role_is_refused_with_what_is(filled, tmp_path, name):
    with pytest.raises(ExportError, match=r"there are: .*agent_performance.*executions.*user_agent_interactions"):
        export(filled, name, "csv", tmp_path / "x.csv")


def test_columns_that_the_role_may_not_read_are_left_out_and_told(filled, tmp_path):
    columns = {}
    for role in (ANALYST, ONCALL):
        done = export(filled, "executions", "csv", tmp_path / "x.csv", role=role)
        columns[role] = set(done.path.read_text().strip().split(","))
        assert not columns[role] & set(done.left_out)
    assert {"user_key", "error_message", "stack"} <= columns[ONCALL] - columns[ANALYST]
    assert "client_ip_prefix" not in columns[ONCALL]


def test_rows_that_a_view_hides_are_counted(filled, tmp_path):
    with filled.connect() as connection:
        connection.execute(
            "insert into agentmill.interaction_history (interaction_id, user_key, agent_id, occurred_at, migration_id) "
            "select n, 'u' || n, case when n <= 2 then 'few' else 'many' end, now(), 'm' from generate_series(1, 8) n"
        )
    done = {role: export(filled, "user_agent_interactions", "csv", tmp_path / "x.csv", role=role) for role in READS}
    assert (done[ANALYST].rows, done[ANALYST].hidden_rows) == (6, 2)
    assert (done[PRIVACY].rows, done[PRIVACY].hidden_rows) == (8, 0)


def test_a_failure_leaves_the_old_file_and_nothing_else(filled, tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    path.write_text("old")
    monkeypatch.setattr(exporting, "_BATCH_ROWS", 2)

    def break_off(rows):
        raise psycopg.OperationalError("gone")

    with pytest.raises(psycopg.OperationalError, match="gone"):
        export(filled, "execution_rollup_hourly", "csv", path, progress=break_off)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
