"""Several records of one thing: one wins, whatever the order they came in, and the others are counted."""

from dataclasses import dataclass

import polars as pl

from pipelines.record_types import RecordType


@dataclass(frozen=True, slots=True)
class Duplicates:
    """How many records lost to another of the same key, and of how many keys the records disagreed."""

    dropped: int
    conflicts: int


def keep_latest(rows: pl.DataFrame, kind: RecordType) -> tuple[pl.DataFrame, Duplicates]:
    """One row per key: the latest version wins, then the largest digest, so that order cannot matter."""
    key = pl.col(kind.key[0]) if len(kind.key) == 1 else pl.struct(kind.key)
    keys = rows.select(key.alias("key"), version=kind.version, digest="row_hash").with_row_index("row")
    if keys["key"].n_unique() == rows.height:
        return rows, Duplicates(0, 0)
    repeated = keys.filter(pl.col("key").is_duplicated())
    ranked = repeated.sort("version", "digest", descending=True, nulls_last=True)
    losers = ranked.filter(~pl.col("key").is_first_distinct())
    conflicts = repeated.group_by("key").agg(pl.col("digest").n_unique()).filter(pl.col("digest") > 1)
    kept = (
        rows.with_row_index("row").join(losers.select("row"), on="row", how="anti", maintain_order="left").drop("row")
    )
    return kept, Duplicates(losers.height, conflicts.height)
