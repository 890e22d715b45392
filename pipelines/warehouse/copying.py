"""Frames into tables: Arrow to PostgreSQL's binary COPY format, batch by batch, without a Python object per row."""

from typing import Any

import pgpq
import polars as pl
import psycopg
import pyarrow as pa
from pgpq.encoders import StringViewEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import sql

_BATCH_ROWS = 65_536


def copy_frame(connection: psycopg.Connection, frame: pl.DataFrame, schema: str, table: str) -> int:
    """Append a frame to a table with columns of its names and types, and return how many rows arrived."""
    known = [column.name for column in frame if column.null_count() < frame.height]  # nulls need not be sent
    frame = frame.select(known or frame.columns[:1])
    arrow: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    json_columns = _json_columns(connection, schema, table)
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(
        arrow.schema, {field.name: _encoder(field, is_json=field.name in json_columns) for field in arrow.schema}
    )
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(sql.Identifier(schema, table), columns)
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(encoder.write_header())
            for batch in arrow.to_batches(_BATCH_ROWS):
                copy.write(encoder.write_batch(batch))
            copy.write(encoder.finish())
        return cursor.rowcount


def _json_columns(connection: psycopg.Connection, schema: str, table: str) -> set[str]:
    rows = connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and atttypid = 'jsonb'::regtype",
        [f"{schema}.{table}"],
    )
    return {name for (name,) in rows}


def _encoder(field: pa.Field, *, is_json: bool) -> Any:  # noqa: ANN401 - the union of all encoders
    if is_json:
        return StringViewEncoderBuilder.new_with_output(field, Jsonb())
    return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
