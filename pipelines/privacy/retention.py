"""Days and months that were kept for as long as the settings say: what they are, and how they go.

Published records go by partition, a month at a time, never row by row. Rollups are small tables without partitions:
their days go in one transaction.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg
from psycopg import sql

from pipelines.clean import CLEAN_EXECUTIONS, QUARANTINED, CleanReceipt
from pipelines.extract import RawReceipt
from pipelines.failures import OCCURRENCES, SIGNATURES
from pipelines.lake import Lake, Receipt
from pipelines.record_types import RECORD_TYPES
from pipelines.regression import freeze_cases, publish_failures
from pipelines.rollup import TABLES
from pipelines.settings import RetentionSettings
from pipelines.warehouse.connection import PARTITIONS, SCHEMA, Warehouse
from pipelines.warehouse.ledger import loading

RECEIPTS = "receipts_daily"
ROLLUPS = (*TABLES, SIGNATURES, RECEIPTS)
"""The tables whose rows are kept for `rollups_months`."""

_BY_EXECUTION = (OCCURRENCES,)
"""Small tables whose rows are kept as long as the executions they name."""

_MONTH = re.compile(r"_(?P<year>\d{4})_(?P<month>\d\d)")
_DAY = re.compile(r"_(?P<year>\d{4})_(?P<month>\d\d)_(?P<day>\d\d)")
_MONTHS_OF_TABLE = """
select partition.relname::text from pg_inherits
join pg_class partition on partition.oid = inhrelid
join pg_namespace space on space.oid = partition.relnamespace and space.nspname = %s
where inhparent = %s::regclass order by 1
"""
_BYTES = "select coalesce(sum(pg_total_relation_size(relid)), 0)::bigint from pg_partition_tree(%s::regclass)"
_DETACH_ATTEMPTS, _DETACH_LOCK_MS, _PAUSE_SECONDS = 20, 50, 0.5


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that was kept long enough: where it is, from which day to which, and how much it is.

    `rows` of a table without partitions are those of the days; its bytes are not known.
    """

    place: str
    first_day: date
    last_day: date
    days: int
    rows: int
    size_bytes: int | None


def plan_retention(settings: RetentionSettings, lake: Lake, warehouse: Warehouse, today: date) -> list[Drop]:
    """What would be dropped today. Changes nothing."""
    return [
        *_lake_drops([*lake.datasets("raw")], today - timedelta(days=settings.raw_days), lake),
        *_lake_drops([QUARANTINED], today - timedelta(days=settings.quarantine_days), lake),
        *_lake_drops(_CLEAN, months_before(today, settings.executions_months), lake),
        *_partition_drops(months_before(today, settings.executions_months), warehouse),
        *_day_drops(_BY_EXECUTION, months_before(today, settings.executions_months), warehouse),
        *_day_drops(ROLLUPS, months_before(today, settings.rollups_months), warehouse),
    ]


def retain(
    settings: RetentionSettings,
    lake: Lake,
    warehouse: Warehouse,
    today: date,
    derive: Callable[[Warehouse], object] = publish_failures,
) -> list[Drop]:
    """Drop what was kept long enough, and tell what it was. Raises BusyError; what is done by then stays done.

    `derive` makes anew what follows from failures and executions, where some went. What approved regression cases are
    run on is kept before.
    """
    freeze_cases(warehouse)
    plan = plan_retention(settings, lake, warehouse, today)
    executions_since = months_before(today, settings.executions_months)
    for dataset in lake.datasets("raw"):
        for day in _before(today - timedelta(days=settings.raw_days), dataset, lake):
            _drop_raw(dataset, day, lake)
    for day in _before(today - timedelta(days=settings.quarantine_days), QUARANTINED, lake):
        _drop_quarantine(day, lake)
    with warehouse.connect() as connection:
        months = _old_partitions(connection, executions_since)
        for table, name in months:
            _drop_month(connection, table, name)
    for dataset in _CLEAN:
        for day in _before(executions_since, dataset, lake):
            lake.drop(dataset, day)
    _drop_days(_BY_EXECUTION, executions_since, warehouse)
    removed = _drop_days(ROLLUPS, months_before(today, settings.rollups_months), warehouse)
    if months or removed[SIGNATURES]:
        derive(warehouse)
    return plan


def months_before(today: date, months: int) -> date:
    """The first day of the month that is so many before the present one, which is therefore never part of a drop."""
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(max(year, 1), month + 1, 1)


_CLEAN = tuple(kind.clean_name for kind in RECORD_TYPES.values())


def _before(limit: date, dataset: str, lake: Lake) -> list[date]:
    """The days before a limit that a dataset keeps something of."""
    days = [day for day in lake.days(dataset) if day < limit]
    return [
        day
        for day in days
        if (receipt := lake.receipt(dataset, day, Receipt)) is not None and _is_kept(receipt, dataset)
    ]


def _is_kept(receipt: Receipt, dataset: str) -> bool:
    """Whether there is something to drop; the clean zone has a receipt for days without rows too, and it goes."""
    return bool(receipt.parts) or dataset in _CLEAN


def _lake_drops(datasets: Sequence[str], limit: date, lake: Lake) -> Iterator[Drop]:
    for dataset in datasets:
        if days := _before(limit, dataset, lake):
            receipts = [lake.receipt(dataset, day, Receipt) or Receipt() for day in days]
            yield Drop(
                place=f"lake {dataset}",
                first_day=days[0],
                last_day=days[-1],
                days=len(days),
                rows=sum(receipt.rows for receipt in receipts),
                size_bytes=sum(lake.size(dataset, day) for day in days),
            )


def _drop_raw(dataset: str, day: date, lake: Lake) -> None:
    """The records of a raw day. What accounts for them stays: run again, the day is neither dirty nor empty."""
    receipt = lake.receipt(dataset, day, RawReceipt)
    if receipt is not None:
        gone = {"parts": [], "fields": {}, "looked_at": 0, "drift": [], "is_dropped": True}
        lake.commit(dataset, day, receipt.model_copy(update=gone))
        lake.sweep(dataset, day)


def _drop_quarantine(day: date, lake: Lake) -> None:
    """The refused records of a day; how many there were, and why, is told by the receipts."""
    clean = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if clean is not None:
        lake.commit(CLEAN_EXECUTIONS, day, clean.model_copy(update={"quarantine": []}))
    lake.drop(QUARANTINED, day)


def _old_partitions(connection: psycopg.Connection, limit: date) -> list[tuple[str, str]]:
    """The tables of records, and their months that are over before the limit."""
    found = []
    for table in RECORD_TYPES:
        for (name,) in connection.execute(_MONTHS_OF_TABLE, [PARTITIONS, f"{SCHEMA}.{table}"]).fetchall():
            if (month := _MONTH.fullmatch(name, len(table))) and date(
                int(month["year"]), int(month["month"]), 1
            ) < limit:
                found.append((table, name))
    return found


def _partition_drops(limit: date, warehouse: Warehouse) -> Iterator[Drop]:
    with warehouse.connect() as connection:
        for table, name in _old_partitions(connection, limit):
            month = sql.Identifier(PARTITIONS, name)
            (rows,) = connection.execute(sql.SQL("select count(*) from {}").format(month)).fetchall()[0]
            (size,) = connection.execute(_BYTES, [f"{PARTITIONS}.{name}"]).fetchall()[0]
            days = _days_of(connection, table, name)
            first, last = (days[0], days[-1]) if days else (_first_of(table, name),) * 2
            yield Drop(f"table {table}, partition {name}", first, last, len(days), rows, size)


def _drop_month(connection: psycopg.Connection, table: str, name: str) -> None:
    """Detach a month and drop it with its days and their entries in the ledger, when no reader is in the way."""
    days = _days_of(connection, table, name)
    with ExitStack() as locks:
        for day in days:
            locks.enter_context(loading(connection, table, day))
        for attempt in range(_DETACH_ATTEMPTS):
            try:
                _detach(connection, table, name, days, wait_ms=_DETACH_LOCK_MS)
            except psycopg.errors.LockNotAvailable:
                time.sleep(random.uniform(0, min(_PAUSE_SECONDS, 0.02 * 2**attempt)))  # noqa: S311 - jitter
            else:
                return
        _detach(connection, table, name, days, wait_ms=None)


def _detach(connection: psycopg.Connection, table: str, name: str, days: list[date], wait_ms: int | None) -> None:
    month = sql.Identifier(PARTITIONS, name)
    with connection.transaction():
        if wait_ms is not None:
            connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(wait_ms)))
        parent = sql.Identifier(SCHEMA, table)
        connection.execute(sql.SQL("alter table {} detach partition {}").format(parent, month))
        connection.execute(sql.SQL("drop table {}").format(month))
        connection.execute("delete from agentmill.load_ledger where table_name = %s and day = any(%s)", [table, days])


def _days_of(connection: psycopg.Connection, table: str, name: str) -> list[date]:
    """The days that a month of a table has partitions for."""
    names = connection.execute(_MONTHS_OF_TABLE, [PARTITIONS, f"{PARTITIONS}.{name}"]).fetchall()
    told = [_DAY.fullmatch(day, len(table)) for (day,) in names]
    return [date(int(day["year"]), int(day["month"]), int(day["day"])) for day in told if day]


def _first_of(table: str, name: str) -> date:
    return date.fromisoformat(name.removeprefix(f"{table}_").replace("_", "-") + "-01")


def _day_drops(tables: Sequence[str], limit: date, warehouse: Warehouse) -> Iterator[Drop]:
    with warehouse.connect() as connection:
        for table in tables:
            query = sql.SQL("select min(day), max(day), count(distinct day), count(*) from {} where day < %s")
            told = connection.execute(query.format(sql.Identifier(SCHEMA, table)), [limit]).fetchall()
            for first, last, days, rows in told:
                if rows:
                    yield Drop(f"table {table}", first, last, days, rows, None)


def _drop_days(tables: Sequence[str], limit: date, warehouse: Warehouse) -> dict[str, int]:
    """Delete the days of small tables before a limit, all in one transaction; how many rows each had."""
    with warehouse.connect() as connection, connection.transaction():
        removed = {}
        for table in tables:
            query = sql.SQL("delete from {} where day < %s").format(sql.Identifier(SCHEMA, table))
            removed[table] = connection.execute(query, [limit]).rowcount
        connection.execute(
            "delete from agentmill.load_ledger where table_name = any(%s) and day < %s", [list(tables), limit]
        )
    return removed
