"""DuckDB as a vectorised function: it reads JSON several times faster than Polars and keeps numbers as written."""

from functools import cache

import duckdb
import polars as pl


def query_column(record: pl.Series, expression: str, *parameters: object) -> pl.Series:
    """Evaluate an SQL expression over a column named `record`. Rows keep their order."""
    return query(record, f"select {expression} as found from records", *parameters)["found"]  # noqa: S608


def query(record: pl.Series, sql: str, *parameters: object) -> pl.DataFrame:
    """Answer a query over `records`, a table of the one column `record`. Rows keep their order."""
    with database().cursor() as connection:
        connection.register("records", record.to_frame("record").to_arrow(compat_level=pl.CompatLevel.newest()))
        answer = pl.from_arrow(connection.sql(sql, params=list(parameters)).to_arrow_table())
    assert isinstance(answer, pl.DataFrame)  # noqa: S101 - a table arrives as a frame
    return answer


@cache
def database() -> duckdb.DuckDBPyConnection:
    """One in-memory DuckDB per process that never reaches for the network; work goes through its cursors."""
    return duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
