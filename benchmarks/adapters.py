"""The product's own functions in the shape that scorers call them."""

import polars as pl

from pipelines.anonymize.text import sanitize as _sanitize


def sanitize(texts: list[str]) -> list[str]:
    """Each text as the pipeline would store it."""
    return _sanitize(pl.Series(texts, dtype=pl.String))["text"].to_list()
