"""Pseudonyms and digests: stable under one key, different under another, impossible to guess without it."""

import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` and `nchash` expressions

from pipelines.anonymize.keys import PseudonymKey

_DIGITS = 32
"""128 bits: no two of 10^12 users share a pseudonym by chance."""


def pseudonymize(values: pl.Series, domain: str, key: PseudonymKey) -> pl.Series:
    """`<key id>_<hex>`: HMAC-SHA256 (RFC 2104) over domain, tenant and value, so that nothing joins by accident.

    Null and empty text are null.
    """
    given = values.replace("", None).alias("value")
    unique = given.drop_nulls().unique().to_frame()
    pseudonyms = unique.with_columns(pseudonym=pl.concat_str(pl.lit(f"{key.id}_"), _hmac(pl.col("value"), domain, key)))
    joined = given.to_frame().join(pseudonyms, on="value", how="left", maintain_order="left")
    return joined["pseudonym"].alias(values.name)


def digest(values: pl.Series, domain: str, key: PseudonymKey) -> pl.Series:
    """Keyed digest of long values, for telling equal from different without keeping them.

    XXH3 (128 bits) makes them short, HMAC-SHA256 makes the result say nothing to those without the key.
    """
    short = pl.col("value").nchash.xxh3_128().cast(pl.String)  # type: ignore[attr-defined]
    return values.to_frame("value").select(_hmac(short, domain, key)).to_series().alias(values.name)


def _hmac(value: pl.Expr, domain: str, key: PseudonymKey) -> pl.Expr:
    place = f"{domain}/{key.tenant}" if key.tenant else domain  # neither holds a slash
    message = pl.concat_str(pl.lit(f"{place}\x1f"), value)
    hashed: pl.Expr = message.chash.hmac_sha256(key=key.secret.hex())  # type: ignore[attr-defined]
    return hashed.str.head(_DIGITS)
