"""Names of fields and attributes: nearly always harmless, but some logs have addresses or people as keys."""

from collections.abc import Iterable

import polars as pl

from pipelines.anonymize.text import sanitize_texts

_PLAIN = r'^[A-Za-z_$"][A-Za-z0-9_.$:/"\[\]-]{0,99}$'
_NUMBERS = r"\d{4,}|\d+[.-]\d+[.-]\d+"
"""What names have no use for: addresses, telephone numbers, ids."""


def plain_names(names: Iterable[str]) -> set[str]:
    """Those of the names that may be shown."""
    told = pl.Series(list(names), dtype=pl.String)
    is_plain = told.str.contains(_PLAIN) & ~told.str.contains(_NUMBERS) & (sanitize_texts(told) == told)
    return set(told.filter(is_plain))
