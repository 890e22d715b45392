"""CSV and Parquet files as records: CSV is read as text and its misfits are reported, Parquet keeps its types."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.duck import database
from pipelines.sources.streams import UnreadableInputError

_BATCH_ROWS = 100_000
_UTF16_MARKS = ("\ufffd\ufffd",)
"""What a byte order mark of UTF-16 becomes where UTF-8 is read."""
_MAX_REJECTS = 1_000_000
_READ_CSV = """
    select * from read_csv(
        $path, columns = $columns, delim = $delimiter, max_line_size = $max_line_bytes, rejects_limit = $max_rejects,
        auto_detect = false, header = true, quote = '"', escape = '"', strict_mode = true, store_rejects = true
    )
"""
_REJECTS = """
    select min(line) as line, min(line_byte_position) - 1 as byte_offset, any_value(csv_line) as received,
        min(error_type)::varchar as error_type
    from reject_errors group by line_byte_position order by line
"""
_REASONS = {"LINE SIZE OVER MAXIMUM": "line_too_long", "INVALID ENCODING": "not_utf8"}


def read_csv(path: Path, delimiter: str, max_line_bytes: int) -> Iterator[pl.DataFrame]:
    """Batches of rows (line, record) with every value as text, then the misfits (line, byte_offset, problem, received).

    The first line names the columns. `line` is the number of a good row, and for a misfit its line in the file.
    Raises UnreadableInputError.
    """
    columns = _header(path, delimiter)
    if not columns:
        return
    parameters = {
        "path": str(path),
        "columns": dict.fromkeys(columns, "VARCHAR"),
        "delimiter": delimiter,
        "max_line_bytes": max_line_bytes,
        "max_rejects": _MAX_REJECTS,
    }
    with database().cursor() as connection:
        try:
            batches = connection.sql(_READ_CSV, params=parameters).to_arrow_reader(_BATCH_ROWS)
            yield from _numbered(batches)
            yield _rejected(connection, path.stat().st_size)
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]  # the next lines quote the data
            raise UnreadableInputError(f"it is no CSV with delimiter `{delimiter}` ({reason})") from None


def read_parquet(path: Path) -> Iterator[pl.DataFrame]:
    """Batches of rows (line, record) in the file's own types. Raises UnreadableInputError."""
    try:
        with pq.ParquetFile(path) as file:
            yield from _numbered(map(_readable, file.iter_batches(_BATCH_ROWS)))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableInputError(f"it is not a whole Parquet file ({error})") from error


def _readable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with what is no text, number, truth or time as text: bytes in hex, odd nested values as JSON."""
    columns = [_as_text(column) if _is_odd(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _is_odd(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_is_odd(kind.field(place).type) for place in range(kind.num_fields))
    is_plain = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_decimal128,
        pa.types.is_null,
    )
    return not any(test(kind) for test in is_plain)


def _as_text(values: pa.Array) -> pa.Array:
    """Few columns are odd, so they may be read value by value."""
    is_nested = pa.types.is_nested(values.type)
    written = (json.dumps(value, default=_spelled) if is_nested else _spelled(value) for value in values.to_pylist())
    return pa.array([None if text in (None, "null") else text for text in written], pa.large_string())


def _spelled(value: object) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes) else str(value)


def _header(path: Path, delimiter: str) -> list[str]:
    """The column names; a name that comes again gets its position, so that no column hides another."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            names = next(csv.reader(file, delimiter=delimiter), [])
    except csv.Error as error:
        raise UnreadableInputError(f"its header cannot be read ({error})") from error
    if names and names[0].startswith(_UTF16_MARKS):
        raise UnreadableInputError("it is UTF-16; convert it to UTF-8")
    told: list[str] = []
    for place, name in enumerate(names, start=1):
        taken = {known.lower() for known in told}  # names differ in more than upper and lower case
        told.append(f"{name}_{place}" if name.lower() in taken else name)
    return told


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    first = 1
    for batch in batches:
        rows = pl.DataFrame(pl.from_arrow(batch))
        yield pl.DataFrame(
            {"line": range(first, first + rows.height), "record": rows.to_struct()}, schema_overrides={"line": pl.Int64}
        )
        first += rows.height


def _rejected(connection: duckdb.DuckDBPyConnection, file_size: int) -> pl.DataFrame:
    """The lines that are no rows of this file."""
    rejects = pl.DataFrame(pl.from_arrow(connection.sql(_REJECTS).to_arrow_table()))
    ends_file = pl.col("byte_offset") + pl.col("received").str.len_bytes() >= file_size - 1
    swallows_lines = pl.col("received").str.strip_chars_end("\n").str.contains("\n", literal=True)
    unclosed = rejects.filter(ends_file & swallows_lines & (pl.col("error_type") == "UNQUOTED VALUE"))
    if unclosed.height:
        raise UnreadableInputError(f"a quote that opens on line {unclosed['line'][0]} is never closed")
    return rejects.select(
        pl.col("line", "byte_offset").cast(pl.Int64),
        pl.col("error_type").replace_strict(_REASONS, default="malformed", return_dtype=pl.String).alias("problem"),
        pl.when(pl.col("error_type") != "INVALID ENCODING").then(pl.col("received")).alias("received"),
    )
