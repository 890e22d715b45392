"""The product's own functions in the shape that scorers call them."""

import polars as pl

from pipelines.anonymize.text import sanitize_texts


def sanitize(texts: list[str]) -> list[str]:
    """Each text as the pipeline would store it."""
    return sanitize_texts(pl.Series(texts, dtype=pl.String)).to_list()
