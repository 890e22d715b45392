"""Atomic publishing: a day's rows are built aside, checked, then swapped in. Readers see the old day or the new one.

Staging is created and committed before it is filled (a crash between the two would leak its file), the swap waits for
no reader longer than a moment, and the ledger is written in the transaction that makes it true.
"""

import contextlib
import logging
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg
from psycopg import sql

from pipelines.record_types import RECORD_TYPES
from pipelines.warehouse.connection import PARTITIONS, SCHEMA, STAGING, Warehouse
from pipelines.warehouse.copying import copy_frame
from pipelines.warehouse.ledger import ALL_DAYS, Basis, BusyError, Load, is_loaded, loading, record

_SWAP_ATTEMPTS = 20
_SWAP_LOCK_MS = 50
_LONGEST_PAUSE_SECONDS = 0.5
_REPLACED = "_replaced"
_STATISTICS_TARGET = 30
"""A sample of 9,000 rows tells the planner enough about a single day."""
_STAGED_NAME = re.compile(rf"(?P<table>[a-z_]+)_(?P<day>\d{{4}}_\d\d_\d\d)(?:{_REPLACED})?")

log = logging.getLogger(__name__)

Also = Callable[[psycopg.Connection], None]
"""Writes that belong to the same moment as a swap."""

Tables = Sequence[tuple[Load, pl.DataFrame]]
"""Small tables, each with the rows of one of its days, or of all."""


class IncompleteLoadError(Exception):
    """Fewer or other rows arrived in the database than were sent; the old day is untouched."""


def publish_partition(warehouse: Warehouse, load: Load, rows: pl.DataFrame, also: Also) -> bool:
    """Make the rows the day's partition, and report whether anything changed. Raises BusyError, IncompleteLoadError.

    `also` writes what must appear in the same moment. Rows lie in [day, day + 1) by `event_time`, UTC.
    """
    with warehouse.connect() as connection, loading(connection, load.table, load.day):
        return publish_locked(connection, load, rows, also)


def publish_locked(connection: psycopg.Connection, load: Load, rows: pl.DataFrame, also: Also) -> bool:
    """Do what `publish_partition` does, where the caller holds the day's lock."""
    if _is_published(connection, load):
        return False
    _stage(connection, load, rows)
    _attach_month(connection, load)
    _swap(connection, load, also)
    _drop_staged(connection, load)
    return True


def _is_published(connection: psycopg.Connection, load: Load) -> bool:
    """Whether the load is the day's partition already."""
    return is_loaded(connection, load) and _exists(connection, PARTITIONS, _day_name(load))


def replace_rows(warehouse: Warehouse, tables: Tables, basis: Basis) -> bool:
    """Make the rows each table's day (the whole table, for ALL_DAYS), and report whether anything changed.

    For small tables: one transaction deletes and inserts, so readers see all the old rows or all the new ones.
    Raises BusyError, also where the basis of the rows is gone, and IncompleteLoadError.
    """
    with warehouse.connect() as connection, locked(connection, tables):
        if all(is_loaded(connection, load) for load, _ in tables):
            return False
        with connection.transaction():
            if not basis(connection):
                names = ", ".join(load.table for load, _ in tables)
                raise BusyError(f"what {names} were computed from has changed meanwhile; run the days again")
            replace_locked(connection, tables)
    return True


@contextlib.contextmanager
def locked(connection: psycopg.Connection, tables: Tables) -> Iterator[None]:
    """Hold the locks of small tables, always in the same order. Raises BusyError."""
    with contextlib.ExitStack() as locks:
        for load, _ in sorted(tables, key=lambda pair: pair[0].table):
            locks.enter_context(loading(connection, load.table, load.day))
        yield


def replace_locked(connection: psycopg.Connection, tables: Tables) -> None:
    """Replace rows in the caller's transaction, under the caller's locks; what is loaded already stays as it is."""
    for load, rows in tables:
        if is_loaded(connection, load):
            continue
        everything = sql.SQL("delete from {}").format(sql.Identifier(SCHEMA, load.table))
        of_day = sql.SQL(" where day = {}").format(sql.Literal(load.day))
        connection.execute(everything if load.day == ALL_DAYS else everything + of_day)
        _check_arrival(load, copy_frame(connection, rows, SCHEMA, load.table))
        record(connection, load)


def sweep_staging(warehouse: Warehouse) -> list[str]:
    """Drop what killed loads left in staging, and return the names. A load that is going on is left alone."""
    with warehouse.connect() as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = %s", [STAGING]).fetchall()
        dropped = []
        for (name,) in names:
            staged = _STAGED_NAME.fullmatch(name)
            if staged is None:
                continue
            load = Load(
                table=staged["table"], day=date.fromisoformat(staged["day"].replace("_", "-")), content="", rows=0
            )
            with contextlib.suppress(BusyError), loading(connection, load.table, load.day):
                _drop_staged(connection, load)
                dropped.append(name)
    return dropped


def _stage(connection: psycopg.Connection, load: Load, rows: pl.DataFrame) -> None:
    """Build the day aside. Created and committed first: a server crash inside one transaction would leak its file."""
    staged = sql.Identifier(STAGING, _day_name(load))
    _drop_staged(connection, load)
    connection.execute(
        sql.SQL("create table {} (like {} including defaults including constraints)").format(
            staged, sql.Identifier(SCHEMA, load.table)
        )
    )
    connection.execute(
        sql.SQL("alter table {} add constraint in_its_day check (event_time >= {} and event_time < {})").format(
            staged, *map(sql.Literal, _bounds(load))
        )
    )
    _give_to_owner(connection, STAGING, _day_name(load), load)
    with connection.transaction():
        _check_arrival(load, copy_frame(connection, rows, STAGING, _day_name(load)))
        unique = sql.SQL(", ").join(_indexed(name) for name in (*RECORD_TYPES[load.table].key, "source"))
        connection.execute(sql.SQL("create unique index {} on {} ({})").format(_index_name(load), staged, unique))
        _index_like_table(connection, load, staged)
        connection.execute(sql.SQL("set local default_statistics_target = {}").format(sql.Literal(_STATISTICS_TARGET)))
        connection.execute(sql.SQL("analyze {}").format(staged))


def _give_to_owner(connection: psycopg.Connection, schema: str, name: str, load: Load) -> None:
    """Make a partition the property of whoever owns the table, so that any loader can replace it."""
    owner = connection.execute(
        "select pg_get_userbyid(relowner)::text from pg_class where oid = %s::regclass", [f"{SCHEMA}.{load.table}"]
    ).fetchall()[0][0]
    partition = sql.Identifier(schema, name)
    connection.execute(sql.SQL("alter table {} owner to {}").format(partition, sql.Identifier(owner)))


def _index_like_table(connection: psycopg.Connection, load: Load, staged: sql.Identifier) -> None:
    """Build the indexes that the table has for all of its days, so that attaching the day need not."""
    definitions = connection.execute(
        "select split_part(pg_get_indexdef(indexrelid), ' USING ', 2) from pg_index where indrelid = %s::regclass",
        [f"{SCHEMA}.{load.table}"],
    ).fetchall()
    for (definition,) in definitions:
        connection.execute(
            sql.SQL("create index {} on {} using {}").format(_index_name(load), staged, sql.SQL(definition))
        )


def _index_name(load: Load) -> sql.Identifier:
    """A name of its own: the old and the new day meet in one schema at the swap."""
    return sql.Identifier(f"{_day_name(load)}_{uuid.uuid4().hex[:8]}")


def _indexed(column: str) -> sql.Composed:
    return sql.SQL('{} collate "C"').format(sql.Identifier(column))


def _attach_month(connection: psycopg.Connection, load: Load) -> None:
    """Give the table its partition for the month, if it has none yet."""
    name, first = _month_name(load), load.day.replace(day=1)
    if _exists(connection, PARTITIONS, name):
        return
    table, month = sql.Identifier(SCHEMA, load.table), sql.Identifier(PARTITIONS, name)
    bounds = map(sql.Literal, (_midnight(first), _midnight((first + timedelta(days=32)).replace(day=1))))
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"agentmill month {name}"])
        if _exists(connection, PARTITIONS, name):
            return
        connection.execute(
            sql.SQL(
                "create table {} (like {} including defaults including constraints) partition by range (event_time)"
            ).format(month, table)
        )
        _give_to_owner(connection, PARTITIONS, name, load)
        connection.execute(
            sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(table, month, *bounds)
        )


def _swap(connection: psycopg.Connection, load: Load, also: Also) -> None:
    """Exchange the partitions; where readers hold on too long, exchange the rows.

    What belongs to the same moment is written before: readers wait for the exchange alone.
    """
    with connection.transaction():
        also(connection)
        record(connection, load)
        for attempt in range(_SWAP_ATTEMPTS):
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(_SWAP_LOCK_MS)))
                    _exchange_partitions(connection, load)
            except psycopg.errors.LockNotAvailable:
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.02 * 2**attempt)))  # noqa: S311 - jitter
            else:
                return
        log.info("%s of %s is being read all the time: its rows are exchanged one by one", load.table, load.day)
        _exchange_rows(connection, load)


def _exchange_partitions(connection: psycopg.Connection, load: Load) -> None:
    name = _day_name(load)
    month, day = sql.Identifier(PARTITIONS, _month_name(load)), sql.Identifier(PARTITIONS, name)
    if _exists(connection, PARTITIONS, name):
        replaced = sql.Identifier(name + _REPLACED)
        connection.execute(sql.SQL("alter table {} detach partition {}").format(month, day))
        connection.execute(sql.SQL("alter table {} rename to {}").format(day, replaced))
        moved = sql.Identifier(PARTITIONS, name + _REPLACED)
        connection.execute(sql.SQL("alter table {} set schema {}").format(moved, sql.Identifier(STAGING)))
    staged = sql.Identifier(STAGING, name)
    connection.execute(sql.SQL("alter table {} set schema {}").format(staged, sql.Identifier(PARTITIONS)))
    connection.execute(
        sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
            month, day, *map(sql.Literal, _bounds(load))
        )
    )


def _exchange_rows(connection: psycopg.Connection, load: Load) -> None:
    table = sql.Identifier(PARTITIONS, _day_name(load))
    connection.execute(sql.SQL("delete from {}").format(table))
    connection.execute(
        sql.SQL("insert into {} select * from {}").format(table, sql.Identifier(STAGING, _day_name(load)))
    )


def _drop_staged(connection: psycopg.Connection, load: Load) -> None:
    for name in (_day_name(load), _day_name(load) + _REPLACED):
        connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(STAGING, name)))


def _check_arrival(load: Load, arrived: int) -> None:
    if arrived != load.rows:
        raise IncompleteLoadError(f"{load.table} of {load.day}: {arrived} of {load.rows} rows arrived; nothing changed")


def _exists(connection: psycopg.Connection, schema: str, name: str) -> bool:
    found = connection.execute("select from pg_tables where schemaname = %s and tablename = %s", [schema, name])
    return found.fetchone() is not None


def _month_name(load: Load) -> str:
    return f"{load.table}_{load.day:%Y_%m}"


def _day_name(load: Load) -> str:
    return f"{load.table}_{load.day:%Y_%m_%d}"


def _bounds(load: Load) -> tuple[datetime, datetime]:
    return _midnight(load.day), _midnight(load.day + timedelta(days=1))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), tzinfo=UTC)
