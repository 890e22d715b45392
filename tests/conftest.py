"""What tests share: a key, builders with one good default each, a lake, and a real Postgres with a fresh database."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import polars as pl
import psycopg
import pymysql
import pytest
from psycopg import sql

from pipelines.anonymize.keys import PseudonymKey
from pipelines.clean import Cleaned, clean_records
from pipelines.demo import CONFIG, FIRST_DAY, write_logs
from pipelines.lake import Lake
from pipelines.pricing.book import PriceBook, load_prices
from pipelines.record_types import EXECUTIONS
from pipelines.settings import Settings, parse_settings
from pipelines.sources.files import FileReading, FileSource, list_files
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import PublishedDay
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.ledger import record as enter
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.server import database_url, start_server

hypothesis.settings.register_profile("agentmill", deadline=None, max_examples=60)
hypothesis.settings.load_profile("agentmill")

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"
DAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 12, tzinfo=UTC)
KEY_TEXT = "k1:" + hashlib.sha256(b"tests").hexdigest()
LOCAL_SERVER = "postgresql://root@127.0.0.1:5432/test"

MAPPING: dict[str, Any] = {
    "execution_id": "id",
    "agent_name": "agent",
    "agent_version": "version",
    "model": "model",
    "user": "user",
    "client_ip": "ip",
    "status": "state",
    "started_at": "started",
    "completed_at": "ended",
    "input_tokens": "tokens_in",
    "cache_read_tokens": "tokens_cached",
    "output_tokens": "tokens_out",
    "cost_usd": "cost",
    "error_type": "error_type",
    "error_message": "error",
    "input": "prompt",
}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No configuration of the developer's leaks into a test."""
    for name in [name for name in os.environ if name.startswith(("AGENTMILL_", "DAGSTER_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def key() -> PseudonymKey:
    return PseudonymKey("k1", hashlib.sha256(b"tests").digest())


@pytest.fixture(scope="session")
def prices() -> PriceBook:
    return load_prices()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake((tmp_path / "lake").as_uri())


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., FileSource]:
    """A file source over `<tmp>/logs`; arguments override."""

    def build(**overrides: Any) -> FileSource:
        mapping = {**MAPPING, **overrides.pop("mapping", {})}
        given = {"name": "app", "path": f"{tmp_path}/logs/*", "settle_seconds": 0, "mapping": mapping, **overrides}
        return FileSource.model_validate(given)

    return build


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """One good record as the source writes it; arguments override. Ids count up."""
    ids = itertools.count(1)

    def build(**overrides: Any) -> dict[str, Any]:
        return {
            "id": f"run-{next(ids)}",
            "agent": "planner",
            "version": "1.0",
            "model": "gpt-4o",
            "user": "ann@example.org",
            "state": "success",
            "started": "2026-03-10T10:00:00Z",
            "ended": "2026-03-10T10:00:02Z",
            "tokens_in": 100,
            "tokens_out": 20,
            "cost": 0.01,
            **overrides,
        }

    return build


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., Path]:
    """Write records (dicts, or raw lines) as NDJSON below `<tmp>/logs`."""

    def write(*records: dict[str, Any] | str, name: str = "a.ndjson") -> Path:
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line if isinstance(line, str) else json.dumps(line) for line in records]
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@pytest.fixture
def cleaned(
    source: Callable[..., FileSource], write_log: Callable[..., Path], key: PseudonymKey
) -> Callable[..., Cleaned]:
    """What becomes of some records, under the default source or one with overrides."""

    def build(*records: dict[str, Any] | str, **overrides: Any) -> Cleaned:
        write_log(*records)
        configured = source(**overrides)
        parts = [batch for file in list_files(configured).ready for batch in FileReading(configured, file)]
        return clean_records(parts, configured, key, NOW, DAY)

    return build


@pytest.fixture
def execution(cleaned: Callable[..., Cleaned], record: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The one execution that a record with these overrides becomes."""

    def build(**overrides: Any) -> dict[str, Any]:
        configured = {
            name: overrides.pop(name) for name in ("mapping", "timezone", "cache_tokens") if name in overrides
        }
        result = cleaned(record(**overrides), **configured)
        assert result.rows.height == 1, result.quarantine.to_dicts()
        return result.rows.row(0, named=True)

    return build


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    return start_server(tmp_path_factory.mktemp("postgres") / "data")


_databases = itertools.count(1)


@pytest.fixture
def empty_database(embedded_server: str) -> str:
    """The URL of a database of its own, on the embedded server, without a schema."""
    return database_url(embedded_server, f"test_{os.getpid()}_{next(_databases)}")


@pytest.fixture
def warehouse(empty_database: str) -> Warehouse:
    fresh = Warehouse(empty_database)
    upgrade(fresh)
    return fresh


@pytest.fixture(params=["embedded", "server"])
def any_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without a schema on the embedded server, and on a PostgreSQL server where one runs."""
    if request.param == "embedded":
        yield request.getfixturevalue("empty_database")
        return
    name = f"agentmill_test_{os.getpid()}_{next(_databases)}"
    try:
        with psycopg.connect(LOCAL_SERVER, autocommit=True, connect_timeout=3) as connection:
            connection.execute(f"create database {name}")
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server listens on the local standard port")
    yield LOCAL_SERVER.replace("/test", f"/{name}")
    with psycopg.connect(LOCAL_SERVER, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


MYSQL = {"host": "127.0.0.1", "user": "root", "connect_timeout": 3}


class Postgres:
    """A database of its own on the local PostgreSQL server."""

    def __init__(self, name):
        self.url = LOCAL_SERVER.replace("/test", f"/{name}")

    def run(self, *statements):
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class MariaDb:
    """A database of its own on the local MariaDB server, which allows dates of zeros as old applications do."""

    def __init__(self, name):
        self.name, self.url = name, f"mysql://root@127.0.0.1:3306/{name}"

    def run(self, *statements):
        with pymysql.connect(**MYSQL, database=self.name, autocommit=True) as connection:
            cursor = connection.cursor()
            cursor.execute("set sql_mode = '', time_zone = '+00:00'")  # a test changes the server's zone for a moment
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


@contextmanager
def postgres_database():
    """A database of its own on the local PostgreSQL server; skips where there is none."""
    name = f"agentmill_source_{os.getpid()}_{next(_databases)}"
    try:
        with psycopg.connect(LOCAL_SERVER, autocommit=True, connect_timeout=3) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server listens on the local standard port")
    yield Postgres(name)
    with psycopg.connect(LOCAL_SERVER, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def postgres():
    with postgres_database() as database:
        yield database


@pytest.fixture
def mariadb():
    name = f"agentmill_source_{os.getpid()}_{next(_databases)}"
    try:
        with pymysql.connect(**MYSQL, autocommit=True) as connection:
            connection.cursor().execute(f"create database {name}")
    except pymysql.OperationalError:
        pytest.skip("no MariaDB or MySQL server listens on the local standard port")
    yield MariaDb(name)
    with pymysql.connect(**MYSQL, autocommit=True) as connection:
        connection.cursor().execute(f"drop database {name}")


@pytest.fixture(params=["postgres", "mariadb"])
def database(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def settings(tmp_path: Path, empty_database: str) -> Callable[..., Settings]:
    """Settings with one NDJSON source over `<tmp>/logs` and everything else below `<tmp>`, written to a file too."""

    def build(**overrides: Any) -> Settings:
        app = {"path": f"{tmp_path}/logs/*", "settle_seconds": 0, "mapping": MAPPING, **overrides}
        content = {
            "state_dir": str(tmp_path / "state"),
            "database_url": empty_database,
            "pseudonym_key": KEY_TEXT,
            "sources": {"app": app},
        }
        path = tmp_path / "agentmill.yaml"
        path.write_text(json.dumps(content))
        return parse_settings(path.read_text(), path)

    return build


MARKET_DAYS = [FIRST_DAY + timedelta(days=n) for n in range(4)]


def write_market(folder: Path, database_url: str | None = None) -> Path:
    """Four small days of the demo's logs and their configuration; the same records wherever it is called."""
    write_logs(folder / "logs", runs=120, days=len(MARKET_DAYS))
    # Of so few records the broken ones are a large share.
    text = CONFIG.format(folder=folder, first_day=FIRST_DAY)
    text = text.replace("    settle_seconds: 0", "    max_quarantine_share: 0.2\n    settle_seconds: 0")
    text = text.replace(f"pseudonym_key_file: {folder}/agentmill.key", f"pseudonym_key: '{KEY_TEXT}'")
    if database_url is not None:
        text += f"database_url: {database_url}\n"
    config = folder / "agentmill.yaml"
    config.write_text(text)
    return config


def real_data(name: str) -> Path:
    """A file of real agent logs; skips the test where it is absent."""
    path = REAL_DATA / name
    if not path.exists():
        pytest.skip(f"the real agent logs are not here ({name})")
    return path


def checksums(warehouse: Warehouse) -> dict[str, tuple[int, str]]:
    """Rows and content of every published table. The ledger tells when, so it differs by design."""
    tables = warehouse.read(
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'agentmill' "
        "and c.relkind in ('r', 'p') and c.relname not in ('load_ledger', 'alembic_version') order by 1"
    )
    told = {}
    for (name,) in tables.rows():
        row = warehouse.read(
            f"select count(*), coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from agentmill.{name} t"
        ).row(0)
        told[name] = (row[0], row[1])
    return told


_TOTALS = {
    "execution_count": "count(*)",
    "duration_count": "count(duration_ms)",
    "priced_count": "count(cost_usd)",
    "cost_usd": "sum(cost_usd)",
    "credits": "sum(credits)",
    "metered_count": "count(input_tokens)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "sketch_count(duration_sketch)": "count(duration_ms)",
}
_CUBE_TOTALS = {"sketch_count(ttft_sketch)": "count(ttft_ms)", "sketch_count(cost_sketch)": "count(cost_usd)"}


def _sum(name: str) -> str:
    """Counts of nothing are 0, sums of nothing are null."""
    return f"coalesce(sum({name}), 0)" if "count" in name else f"sum({name})"


def assert_conserved(warehouse: Warehouse) -> None:
    """Hours, quarters, days, agents, models and local days tell what executions do; users of any range are exact."""

    def total(table: str, columns: Iterable[str], zone: str = "UTC") -> tuple[Any, ...]:
        with warehouse.connect() as connection:
            connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
            row = connection.execute(f"select {', '.join(columns)} from agentmill.{table}").fetchone()
        assert row is not None
        return row

    cubes = [f"execution_rollup_{grain}" for grain in ("hourly", "quarter_hourly", "daily")]
    for totals, tables in (
        (_TOTALS, [*cubes, "agent_metrics_hourly", "agent_metrics_daily", "model_metrics_daily"]),
        (_CUBE_TOTALS, [*cubes, "agent_metrics_daily", "model_metrics_daily"]),
    ):
        truth = total("executions", totals.values())
        for table in tables:
            assert total(table, [_sum(name) for name in totals]) == truth, table
    truth = total("executions", _TOTALS.values())
    assert truth[0] > 0
    for zone in ("Europe/Berlin", "Asia/Kathmandu"):
        for view in ("execution_rollup_local_daily", "agent_rollup_local_daily"):
            names = [name for name in _TOTALS if name != "output_tokens" or view != "agent_rollup_local_daily"]
            assert total(view, [_sum(name) for name in names], zone) == tuple(
                value for name, value in zip(_TOTALS, truth, strict=True) if name in names
            ), (view, zone)
    first, last = total("executions", ["min(event_time)", "max(event_time)"])
    for start, end in ((0, 1.01), (0.1, 0.4), (0.25, 0.26), (0.5, 0.5)):
        bounds = [first + (last - first) * share for share in (start, end)]
        ranged = "where event_time >= %s and event_time < %s"
        exact = warehouse.read(f"select count(distinct user_key) from agentmill.executions {ranged}", bounds).item()
        assert warehouse.read("select agentmill.user_count(%s, %s)", bounds).item() == exact


def stored(settings: Settings) -> Iterator[bytes]:
    """All that is kept outside the restricted zone, readable: reports, lake, Dagster's folder, both databases."""
    folder, lake = settings.state_dir, settings.state_dir / "lake"
    plain = [*settings.reports.rglob("*"), *(folder / "dagster").rglob("*"), *lake.rglob("*.json")]
    yield from (path.read_bytes() for path in plain if path.is_file())
    packed = [path for path in lake.rglob("*.parquet") if path.relative_to(lake).parts[0] != "raw"]
    yield from (pl.read_parquet(path).write_ndjson().encode() for path in packed)
    for name in ("agentmill", "dagster"):
        yield dump(open_warehouse(settings).libpq_url.replace("/agentmill?", f"/{name}?"))


def dump(url: str) -> bytes:
    """Every row of every table of a database, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        copies = [sql.SQL("copy (select * from {}) to stdout").format(sql.SQL(table)) for (table,) in tables]
        content = []
        for statement in copies:
            with connection.cursor().copy(statement) as copy:
                content += [bytes(block) for block in copy]
        return b"".join(content)


def enter_day(warehouse: Warehouse, day: date, rows: pl.DataFrame, content: str = "one") -> PublishedDay:
    """A day that the ledger calls published, as everything derived from it reads it."""
    load = Load(table=EXECUTIONS.name, day=day, content=content, rows=rows.height)
    with warehouse.connect() as connection:
        enter(connection, load)
    return PublishedDay(day=day, content=content, rows=rows)


def as_frame(rows: list[dict[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    """Rows that name only what matters, as a frame of the schema."""
    return pl.DataFrame([{**dict.fromkeys(schema), **row} for row in rows], schema=schema, orient="row")
