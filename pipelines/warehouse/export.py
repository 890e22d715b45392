"""Tables and views into files: streamed in batches as a group of readers sees them; a file is whole, or not there."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any, Literal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.dictionary import Relation, load_dictionary
from pipelines.warehouse.query import Answer, reading, write_csv, write_json
from pipelines.warehouse.roles import ANALYST

Format = Literal["csv", "parquet", "json"]

_BATCH_ROWS = 10_000
_TIMES = (
    *("day", "event_time", "hour", "week", "cohort_week"),
    *("date", "timestamp", "executedAt", "createdAt", "created_at", "started_at"),  # of `compat`
)
"""The columns that a range of days may be asked of, the first that there is and is a time: an hour may be a number."""
_UNBOUNDED = pa.decimal128(38, 18)
"""Quotients of decimals have no scale of their own in PostgreSQL; 18 places are kept of them."""
_PLACES = Decimal(1).scaleb(-_UNBOUNDED.scale)
_DIGITS = Context(prec=_UNBOUNDED.precision)
_ARROW_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", "UTC"),
    "_text": pa.list_(pa.string()),
    "_int8": pa.list_(pa.int64()),
    "_float8": pa.list_(pa.float64()),
}
"""All other types become text."""

Progress = Callable[[int], None]
"""Is told how many rows are written."""


class ExportError(Exception):
    """What was asked for cannot be exported; the message says what can."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written: its rows, the columns that the role may not read, and the rows that its view hides."""

    path: Path
    rows: int
    left_out: Sequence[str]
    hidden_rows: int
    """Rows of groups of few users that are blank or left out, of all days."""


def export(  # noqa: PLR0913 - each is an option of the command
    warehouse: Warehouse,
    name: str,
    form: Format,
    path: Path,
    *,
    first: date | None = None,
    end: date | None = None,
    role: str = ANALYST,
    timezone: str | None = None,
    progress: Progress = lambda _: None,
) -> Exported:
    """Write the rows of a table or view in [first, end), UTC days, to a file. Raises ExportError, psycopg.Error.

    `timezone` is the one whose days and hours local views tell.
    """
    with reading(warehouse, role, timezone) as connection:
        relation, readable = _published(connection, name)
        statement = _statement(relation, readable, first, end)
        with (
            connection.transaction(),
            connection.cursor("export", binary=True) as cursor,
            _replacing(path) as partial,
        ):
            cursor.itersize = _BATCH_ROWS
            cursor.execute(statement)
            counted = _Counted(cursor, progress)
            _WRITERS[form](counted, cursor.description or [], partial)
        hidden = connection.execute(_HIDDEN, [name]).fetchone()
    left_out = [column for column in relation.columns if column not in readable]
    return Exported(path, counted.rows, left_out, hidden[0] if hidden else 0)


class _Counted:
    """The rows of a cursor in batches, counted on the way."""

    def __init__(self, cursor: psycopg.ServerCursor[tuple[object, ...]], progress: Progress) -> None:
        self._cursor, self._progress = cursor, progress
        self.rows = 0

    def batches(self) -> Iterator[list[tuple[object, ...]]]:
        while batch := self._cursor.fetchmany(_BATCH_ROWS):
            self.rows += len(batch)
            yield batch
            self._progress(self.rows)

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        for batch in self.batches():
            yield from batch


def _published(connection: psycopg.Connection, name: str) -> tuple[Relation, list[str]]:
    """The table or view, and the columns of it that the present role may read."""
    known = load_dictionary()
    readable: dict[tuple[str, str], list[str]] = {}
    for schema, relation, column in connection.execute(_READABLE).fetchall():
        if (schema, relation) in known.relations:
            readable.setdefault((schema, relation), []).append(column)
    asked = {known.relations[key].shown_name: key for key in readable}
    if name not in asked:
        raise ExportError(f"`{name}` is no table or view that this role reads; there are: {', '.join(sorted(asked))}")
    return known.relations[asked[name]], readable[asked[name]]


_HIDDEN = "select hidden_row_count from agentmill.hidden_groups where view_name = %s"
_READABLE = """
select n.nspname::text, c.relname::text, a.attname::text
from pg_class c
join pg_namespace n on n.oid = c.relnamespace and has_schema_privilege(n.oid, 'usage')
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p', 'v', 'm') and has_column_privilege(c.oid, a.attnum, 'select')
order by c.oid, a.attnum
"""


def _statement(relation: Relation, columns: list[str], first: date | None, end: date | None) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    everything = sql.SQL("select {} from {}").format(names, sql.Identifier(relation.schema, relation.name))
    if first is None and end is None:
        return everything
    types = {name: relation.columns[name].type for name in columns}
    time = next((name for name in _TIMES if types.get(name) in {"date", "timestamptz"}), None)
    if time is None:
        raise ExportError(
            f"{relation.shown_name} has none of the columns {', '.join(_TIMES)}, so no range of days can be taken"
        )
    # Bounds of a day are midnights of UTC, whatever the session's time zone is.
    literal = "{}" if types[time] == "date" else "({}::timestamp at time zone 'UTC')"
    bounds = [
        sql.SQL(f"{{}} {sign} {literal}").format(sql.Identifier(time), sql.Literal(day))
        for sign, day in ((">=", first), ("<", end))
        if day is not None
    ]
    return sql.SQL("{} where {}").format(everything, sql.SQL(" and ").join(bounds))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside the one that is meant, which it replaces when all is written; else nothing is left of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_text(write: Callable[[Answer, IO[str]], None]) -> Callable[[_Counted, Sequence[psycopg.Column], Path], None]:
    def _write(rows: _Counted, columns: Sequence[psycopg.Column], path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as out:
            write(Answer([column.name for column in columns], iter(rows)), out)

    return _write


def _write_parquet(rows: _Counted, columns: Sequence[psycopg.Column], path: Path) -> None:
    schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in rows.batches():
            arrays = [
                _array(list(values), field) for values, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _arrow_type(column: psycopg.Column) -> pa.DataType:
    kind = psycopg.adapters.types.get(column.type_code)
    name = kind.name if kind and column.type_code == kind.oid else f"_{kind.name}" if kind else ""
    if name == "numeric":
        precision, scale = column.precision, column.scale
        fits = precision and precision <= _UNBOUNDED.precision and scale is not None
        return pa.decimal128(precision, scale) if fits else _UNBOUNDED
    return _ARROW_TYPES.get(name, pa.string())


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    if pa.types.is_string(field.type):
        values = [_as_text(value) for value in values]
    if field.type == _UNBOUNDED:
        values = [_as_unbounded(value, field.name) for value in values]
    return pa.array(values, type=field.type)


def _as_unbounded(value: Decimal | None, column: str) -> Decimal | None:
    if value is None:
        return None
    try:
        rounded = value.quantize(_PLACES, context=_DIGITS)
    except InvalidOperation:
        rounded = Decimal("nan")
    if not rounded.is_finite():
        raise ExportError(f"{column} holds {value:.6g}, which is no number of {_DIGITS.prec} digits with 18 places")
    return rounded


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


_WRITERS: dict[Format, Callable[[_Counted, Sequence[psycopg.Column], Path], None]] = {
    "csv": _write_text(write_csv),
    "json": _write_text(write_json),
    "parquet": _write_parquet,
}
