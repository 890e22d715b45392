"""Rows that are alike, so that what is dear is done once for them."""

from collections.abc import Callable

import polars as pl

_FEW_REPEAT = 0.8
_SAMPLED, _HARDLY_ANY_REPEAT = 10, 0.95
"""Where a tenth of the rows hardly repeat, not even equal ones are looked for."""


def distinct_rows(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The distinct rows, in the order of their first appearance, and of each row its place among them, from 0."""
    numbered = rows.with_row_index("_row")
    first = numbered.select(pl.first("_row").over(rows.columns)).to_series()
    is_first = first == numbered["_row"]
    return rows.filter(is_first), (is_first.cum_sum() - 1).gather(first)


def once(rows: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """What `work` tells of each row, done once for equal rows; where few are equal, that costs more than it spares."""
    sample = rows.gather_every(_SAMPLED)
    if sample.n_unique() > sample.height * _HARDLY_ANY_REPEAT:
        return work(rows)
    distinct, place = distinct_rows(rows)
    return work(rows) if distinct.height > rows.height * _FEW_REPEAT else work(distinct)[place]
