"""CSV and Parquet files as records: CSV is read as text and its misfits are reported, Parquet keeps its types."""

import csv
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.duck import database
from pipelines.sources.streams import UnreadableInputError

_BATCH_ROWS = 100_000
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
            yield from _numbered(file.iter_batches(_BATCH_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableInputError(f"it is not a whole Parquet file ({error})") from error


def _header(path: Path, delimiter: str) -> list[str]:
    """The column names; a name that comes again gets its position, so that no column hides another."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            names = next(csv.reader(file, delimiter=delimiter), [])
    except csv.Error as error:
        raise UnreadableInputError(f"its header cannot be read ({error})") from error
    return [f"{name}_{place}" if name in names[: place - 1] else name for place, name in enumerate(names, start=1)]


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
