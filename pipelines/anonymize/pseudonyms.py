"""Pseudonyms and digests: stable under one key, different under another, impossible to guess without it."""

import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` expressions

from pipelines.anonymize.keys import PseudonymKey

_DIGITS = 32
"""128 bits: no two of 10^12 users share a pseudonym by chance."""


def pseudonymize(values: pl.Series, domain: str, key: PseudonymKey) -> pl.Series:
    """`<key id>_<hex>`: HMAC-SHA256 (RFC 2104) over domain and value, so that columns do not join by accident.

    Null and empty text are null.
    """
    return _digest(values.replace("", None), domain, key).alias(values.name)


def digest(values: pl.Series, domain: str, key: PseudonymKey) -> pl.Series:
    """Keyed digest of a value, for telling equal from different without keeping it."""
    return _digest(values, domain, key).str.split_exact("_", 1).struct.field("field_1").alias(values.name)


def _digest(values: pl.Series, domain: str, key: PseudonymKey) -> pl.Series:
    message = pl.concat_str(pl.lit(f"{domain}\x1f"), pl.col("value"))
    hashed = message.chash.hmac_sha256(key=key.secret.hex())  # type: ignore[attr-defined]
    prefixed = pl.concat_str(pl.lit(f"{key.id}_"), hashed.str.head(_DIGITS))
    return values.to_frame("value").select(prefixed).to_series()
