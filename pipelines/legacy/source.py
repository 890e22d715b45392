"""The older application's tables as they stood at one moment: every column as text, with the database's own count."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
import psycopg
from psycopg import IsolationLevel, sql
from pydantic import SecretStr

from pipelines.anonymize.errors import describe_error
from pipelines.legacy import LegacyError
from pipelines.sources.casting import to_text
from pipelines.sources.database import shown_url
from pipelines.warehouse.connection import Warehouse

_BATCH_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Received:
    """The rows of one table, and how many there are by the database's own count."""

    table: str
    rows: pl.DataFrame
    count: int


class Snapshot:
    """One moment of the older application's database. It can only be read."""

    def __init__(self, connection: psycopg.Connection, shown: str) -> None:
        self._connection = connection
        self._shown = shown

    def read(self, table: str, needed: Sequence[str], optional: Sequence[str]) -> Received:
        """A table's columns as trimmed text; a column that is optional and absent is null. Raises LegacyError."""
        name = sql.Identifier(*table.split("."))
        with self._connection.cursor() as cursor:
            described = cursor.execute(sql.SQL("select * from {} limit 0").format(name)).description or []
            present = {column.name for column in described}
            count = cursor.execute(sql.SQL("select count(*) from {}").format(name)).fetchone()
        if absent := [column for column in needed if column not in present]:
            raise LegacyError(f"{table} of {self._shown} has no column {', '.join(absent)}")
        known = [column for column in (*needed, *optional) if column in present]
        selected = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in known)
        rows = pl.concat(self._batches(sql.SQL("select {} from {}").format(selected, name), known))
        rows = rows.with_columns(pl.lit(None, pl.String).alias(column) for column in optional if column not in present)
        return Received(table, rows.with_columns(to_text(column) for column in rows), count[0] if count else 0)

    def _batches(self, query: sql.Composed, columns: list[str]) -> Iterator[pl.DataFrame]:
        schema = dict.fromkeys(columns, pl.String())
        yield pl.DataFrame(schema=schema)
        with self._connection.cursor("agentmill_legacy") as cursor:
            cursor.execute(query)
            while batch := cursor.fetchmany(_BATCH_ROWS):
                yield pl.DataFrame(batch, schema=schema, orient="row")


@contextmanager
def open_snapshot(url: SecretStr) -> Iterator[Snapshot]:
    """Read in one repeatable-read, read-only transaction. Raises LegacyError."""
    try:
        with psycopg.connect(
            Warehouse(url.get_secret_value()).libpq_url, application_name="agentmill", client_encoding="UTF8"
        ) as connection:
            connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
            connection.execute("set local datestyle = 'ISO'")
            yield Snapshot(connection, shown_url(url))
    except (psycopg.Error, UnicodeDecodeError) as error:
        told = describe_error(error).splitlines()[0]
        raise LegacyError(f"{shown_url(url)} cannot be read: {told}") from None
