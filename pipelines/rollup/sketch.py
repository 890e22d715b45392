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

import numpy as np
import polars as pl
import pyarrow as pa

ACCURACY = 0.01
"""The largest error of a quantile, relative to the value of its rank."""
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
SMALLEST = 1e-9
"""In any unit: far below a millisecond, and below a millionth of a cent."""
ZERO_BUCKET = math.ceil(math.log(SMALLEST) / math.log(GAMMA)) - 1
_BUCKET_BITS = 32


def bucket(column: str) -> pl.Expr:
    """The bucket of each value, in the column's name; null for null."""
    value = pl.col(column).cast(pl.Float64)
    at = pl.when(value < SMALLEST).then(ZERO_BUCKET).otherwise((value.log() / math.log(GAMMA)).ceil())
    return at.cast(pl.Int32).alias(column)


def sketches(groups: pl.Series, buckets: pl.Series) -> pl.DataFrame:
    """The `sketch` of each `group`, from the group (an integer below 2^31) and bucket of every value; null is none.

    Sorting one number per value brings equal ones together, which is cheaper than to look up groups and buckets.
    """
    known = pl.DataFrame({"group": groups, "bucket": buckets}).drop_nulls()
    group, at = known["group"].to_numpy().astype(np.int64), known["bucket"].to_numpy()
    values = np.sort((group << _BUCKET_BITS) + (at - ZERO_BUCKET))
    firsts = np.flatnonzero(np.diff(values, prepend=-1))
    told, counts = values[firsts], np.diff(firsts, append=values.size)
    group, at = told >> _BUCKET_BITS, (told & (2**_BUCKET_BITS - 1)) + ZERO_BUCKET
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    pairs = pl.Series(np.column_stack([at, counts]).astype(np.int32).ravel())
    offsets = pl.Series(2 * np.append(starts, group.size))
    lists = pa.LargeListArray.from_arrays(offsets.to_arrow(), pairs.to_arrow())
    return pl.DataFrame({"group": group[starts], "sketch": pl.Series(lists, dtype=pl.List(pl.Int32))})


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
