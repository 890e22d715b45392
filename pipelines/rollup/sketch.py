"""Sketches: histograms over logarithmic buckets that tell any quantile within 1 %, and merge by adding up their counts.

DDSketch: C. Masson, J. E. Rim, H. K. Lee, VLDB 2019. A value v > 0 lies in bucket ceil(log_gamma(v)), that is in
(gamma^(i-1), gamma^i]. Values below the smallest that is told apart, zero among them, share a bucket of their own.
A sketch is a list of integers: bucket, count, bucket, count and so on, by bucket; null where no value is known.
`sql/functions/` merges and reads the same lists.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import polars as pl

ACCURACY = 0.01
"""The largest error of a quantile, relative to the value of its rank."""
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
SMALLEST = 1e-9
"""In any unit: far below a millisecond, and below a millionth of a cent."""
ZERO_BUCKET = math.ceil(math.log(SMALLEST) / math.log(GAMMA)) - 1


def sketches(rows: pl.DataFrame, group: str, column: str) -> pl.DataFrame:
    """The sketch of each group's known values, in the column's name. Groups without a known value have no row."""
    value = pl.col(column).cast(pl.Float64)
    bucket = pl.when(value < SMALLEST).then(ZERO_BUCKET).otherwise((value.log() / math.log(GAMMA)).ceil())
    return (
        rows.select(group, column)
        .drop_nulls()
        .group_by(group, bucket.cast(pl.Int32).alias("bucket"))
        .agg(pl.len().cast(pl.Int32).alias("count"))
        .sort("bucket")
        .group_by(group)
        .agg(pl.concat_arr("bucket", "count").explode().alias(column))
    )


def merge(sketches: pl.Series) -> list[int] | None:
    """The sketch of all values of some sketches; None where there are none."""
    merged = _buckets(sketches).group_by("bucket").agg(pl.col("count").sum()).sort("bucket")
    return [number for pair in merged.iter_rows() for number in pair] or None


def count(sketches: pl.Series) -> int:
    """How many values some sketches hold."""
    return int(_buckets(sketches)["count"].sum())


def quantile(sketch: Sequence[int] | None, q: float) -> float | None:
    """The value at rank 1 + floor(q * (n - 1)) of the n values of a sketch; None for none. q lies in [0, 1]."""
    if not sketch:
        return None
    buckets, counts = sketch[0::2], sketch[1::2]
    at = bisect_right(list(accumulate(counts)), math.floor(q * (sum(counts) - 1)))
    return 0.0 if buckets[at] == ZERO_BUCKET else 2 * GAMMA ** buckets[at] / (GAMMA + 1)


def _buckets(sketches: pl.Series) -> pl.DataFrame:
    numbers = sketches.drop_nulls().explode().cast(pl.Int64)
    return pl.DataFrame({"bucket": numbers.gather_every(2), "count": numbers.gather_every(2, offset=1)})
