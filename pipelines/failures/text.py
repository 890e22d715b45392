"""What a failure says, as one text: its type and message, else its type, else its outcome."""

import polars as pl

from pipelines.execution import FAILURES


def is_failure() -> pl.Expr:
    """Whether an execution counts as a failure."""
    return pl.col("status").is_in(FAILURES)


def failure_text() -> pl.Expr:
    """`type: message`; the type once where the message starts with it, the outcome where nothing else is known."""
    kind, message = pl.col("error_type"), pl.col("error_message")
    repeats = message.str.starts_with(kind).fill_null(value=False)
    told = pl.when(repeats).then(message).otherwise(pl.concat_str([kind, message], separator=": ", ignore_nulls=True))
    return pl.when(told != "").then(told).otherwise(pl.col("status"))
