"""A draft: mapped records on their way to executions, with what is wrong (`problem`) or was repaired (`flag:...`)."""

import polars as pl

FLAG = "flag:"
"""Prefix of the yes-or-no columns that become `quality_flags`."""


def reject(
    draft: pl.DataFrame, condition: pl.Expr, reason: str | pl.Expr, detail: pl.Expr | None = None
) -> pl.DataFrame:
    """Give the rows a reason to be quarantined, unless they have one already. Null counts as no."""
    hit = pl.col("problem").is_null() & condition.fill_null(value=False)
    why = pl.lit(reason) if isinstance(reason, str) else reason
    text = pl.lit(None, pl.String) if detail is None else detail
    return draft.with_columns(
        problem=pl.when(hit).then(why).otherwise("problem"), detail=pl.when(hit).then(text).otherwise("detail")
    )


def flag(draft: pl.DataFrame, name: str, condition: pl.Expr) -> pl.DataFrame:
    """Mark the rows that were repaired or look wrong. Null counts as no; a second condition adds to the first."""
    column = FLAG + name
    earlier = pl.col(column) if column in draft.columns else pl.lit(value=False)
    return draft.with_columns((earlier | condition.fill_null(value=False)).alias(column))


def flags(draft: pl.DataFrame) -> pl.Series:
    """The names of all flags of each row, sorted. Few combinations occur, so each is spelled out once."""
    names = sorted(column for column in draft.columns if column.startswith(FLAG))
    combination = draft.select(
        pl.sum_horizontal(pl.col(name).cast(pl.Int64) * 2**place for place, name in enumerate(names))
    )
    found = combination.to_series().alias("combination")
    spelled = {
        "combination": found.unique(),
        "flags": [
            [name.removeprefix(FLAG) for place, name in enumerate(names) if one >> place & 1] for one in found.unique()
        ],
    }
    table = pl.DataFrame(spelled, schema={"combination": pl.Int64, "flags": pl.List(pl.String)})
    return found.to_frame().join(table, on="combination", how="left", maintain_order="left")["flags"]
