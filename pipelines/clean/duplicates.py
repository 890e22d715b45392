"""Several records of one execution: one wins, whatever the order they came in, and the others are counted."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Duplicates:
    """How many records lost to another of the same execution, and how many executions disagreed with themselves."""

    dropped: int
    conflicts: int


def keep_latest(draft: pl.DataFrame) -> tuple[pl.DataFrame, Duplicates]:
    """One row per execution id: the latest end wins, then the largest digest, so that order cannot matter."""
    if draft["execution_id"].n_unique() == draft.height:
        return draft, Duplicates(0, 0)
    keys = draft.select("execution_id", "completed_at", "row_hash").with_row_index("row")
    repeated = keys.filter(pl.col("execution_id").is_duplicated())
    ranked = repeated.sort("completed_at", "row_hash", descending=True, nulls_last=True)
    losers = ranked.filter(~pl.col("execution_id").is_first_distinct())
    conflicts = repeated.group_by("execution_id").agg(pl.col("row_hash").n_unique()).filter(pl.col("row_hash") > 1)
    kept = (
        draft.with_row_index("row").join(losers.select("row"), on="row", how="anti", maintain_order="left").drop("row")
    )
    return kept, Duplicates(losers.height, conflicts.height)
