"""Users in the published tables: where they stand, and how they are taken out where no clean day can be published."""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg
from psycopg import sql

from pipelines.execution import EXECUTION
from pipelines.failures import SIGNATURES
from pipelines.legacy.plan import INTERACTIONS
from pipelines.pricing.book import PriceBook
from pipelines.publication import COLUMNS, ContradictionError, as_tables, derive
from pipelines.record_types import EXECUTIONS, RECORD_TYPES
from pipelines.rollup import USER_DAILY
from pipelines.warehouse.connection import SCHEMA, Warehouse
from pipelines.warehouse.executions import PublishedDay
from pipelines.warehouse.ledger import Load, content_digest, loaded_content, loading
from pipelines.warehouse.publish import Tables, locked, replace_locked

_IS_THEIRS = "user_key = any(%s)"
_TOLD = {**dict.fromkeys((*RECORD_TYPES, USER_DAILY, INTERACTIONS), _IS_THEIRS), SIGNATURES: "user_keys && %s::text[]"}
"""The tables that tell of users, and the rows that tell of some."""

_DELETE = "delete from {} where user_key = any(%s) and event_time >= %s and event_time < %s returning source"
_UNTOLD = """
update agentmill.failure_signatures_daily
set user_keys = array(select user_key from unnest(user_keys) as user_key where user_key <> all(%s)),
    sample_message = template, sample_execution_ids = '{}'
where user_keys && %s::text[] returning day
"""

log = logging.getLogger(__name__)


def count_rows(warehouse: Warehouse, user_keys: Sequence[str]) -> dict[str, int]:
    """How many rows of each table tell of the users."""
    with warehouse.connect() as connection:
        return {table: _count(connection, table, user_keys) for table in _TOLD}


def days_of(warehouse: Warehouse, user_keys: Sequence[str]) -> set[date]:
    """The days on which a table tells of the users."""
    with warehouse.connect() as connection:
        return {day for table in _TOLD if table != INTERACTIONS for day in _days(connection, table, user_keys)}


def strike_rows(warehouse: Warehouse, user_keys: Sequence[str], prices: PriceBook) -> set[date]:
    """Take out, row by row, what the clean zone could not: days that a check blocks or that the lake lacks.

    What is derived from executions is computed anew of those that are left, and changes in the same moment; where none
    were kept, only what names the users goes. Returns the days. Raises BusyError; the same again goes on.
    """
    keys, struck = list(user_keys), set()
    with warehouse.connect() as connection:
        for table in RECORD_TYPES:
            for day in _days(connection, table, keys):
                with loading(connection, table, day):
                    derived = _derived_of_others(connection, day, keys, prices) if table == EXECUTIONS.name else []
                    with locked(connection, derived), connection.transaction():
                        _strike_records(connection, table, day, keys)
                        replace_locked(connection, derived)
                struck.add(day)
        struck |= _strike_derived(connection, keys)
    return struck


def _strike_records(connection: psycopg.Connection, table: str, day: date, keys: list[str]) -> None:
    statement = sql.SQL(_DELETE).format(sql.Identifier(SCHEMA, table))
    removed = Counter(source for (source,) in connection.execute(statement, [keys, *_bounds(day)]).fetchall())
    for source, count in removed.items():
        connection.execute(
            "update agentmill.receipts_daily set clean_count = clean_count - %s, erased_count = erased_count + %s "
            "where day = %s and source = %s",
            [count, count, day, source],
        )
    _amend(connection, table, day, removed.total())


def _strike_derived(connection: psycopg.Connection, keys: list[str]) -> set[date]:
    struck = set()
    with connection.transaction():
        activity = connection.execute(
            "delete from agentmill.user_activity_daily where user_key = any(%s) returning day", [keys]
        )
        signatures = connection.execute(_UNTOLD, [keys, keys])
        for table, rows in ((USER_DAILY, Counter(activity.fetchall())), (SIGNATURES, Counter(signatures.fetchall()))):
            for (day,), count in rows.items():
                _amend(connection, table, day, count if table == USER_DAILY else 0)
                struck.add(day)
    return struck


def _amend(connection: psycopg.Connection, table: str, day: date, removed: int) -> None:
    """Enter into the ledger that a day is no longer what it was loaded from."""
    connection.execute(
        "update agentmill.load_ledger set content_sha256 = %s, row_count = row_count - %s "
        "where table_name = %s and day = %s",
        [_erased_content(connection, table, day), removed, table, day],
    )


def _erased_content(connection: psycopg.Connection, table: str, day: date) -> str:
    return content_digest("erased", loaded_content(connection, table, day) or "")


def _derived_of_others(connection: psycopg.Connection, day: date, keys: list[str], prices: PriceBook) -> Tables:
    """What follows from the executions of all other users. Where that contradicts itself, the day has no figures."""
    left = _without(connection, day, keys)
    derived = derive(left, prices)
    try:
        return as_tables(left, derived)
    except ContradictionError as error:
        log.warning("%s has no figures until it is run again: %s", day, error)
        content = content_digest("contradiction", derived.content)
        return [
            (Load(table=name, day=day, content=content, rows=0), rows.clear()) for name, rows in derived.tables.items()
        ]


def _without(connection: psycopg.Connection, day: date, keys: list[str]) -> PublishedDay:
    """A day as its table will have it without the users."""
    statement = sql.SQL(
        "select {} from {} where (user_key = any(%s)) is not true and event_time >= %s and event_time < %s "
        'order by event_time, source collate "C", execution_id collate "C"'
    ).format(sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), sql.Identifier(SCHEMA, EXECUTIONS.name))
    rows = connection.execute(statement, [keys, *_bounds(day)]).fetchall()
    frame = pl.DataFrame(rows, schema={name: EXECUTION[name] for name in COLUMNS}, orient="row")
    return PublishedDay(day=day, content=_erased_content(connection, EXECUTIONS.name, day), rows=frame)


def _days(connection: psycopg.Connection, table: str, user_keys: Sequence[str]) -> list[date]:
    day = "(event_time at time zone 'UTC')::date" if table in RECORD_TYPES else "day"
    statement = sql.SQL(f"select distinct {day} from {{}} where {_TOLD[table]} order by 1")  # noqa: S608 - our own words
    rows = connection.execute(statement.format(sql.Identifier(SCHEMA, table)), [list(user_keys)])
    return [day for (day,) in rows.fetchall()]


def _count(connection: psycopg.Connection, table: str, user_keys: Sequence[str]) -> int:
    statement = sql.SQL(f"select count(*) from {{}} where {_TOLD[table]}").format(sql.Identifier(SCHEMA, table))  # noqa: S608
    row = connection.execute(statement, [list(user_keys)]).fetchone()
    return row[0] if row else 0


def _bounds(day: date) -> tuple[datetime, datetime]:
    midnight = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    return midnight, midnight + timedelta(days=1)
