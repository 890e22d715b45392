"""Lossless casts from what sources write (mostly text) to typed values. What does not fit becomes null, never wrong."""

import polars as pl

_TRUTH = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}
_SPACE = " \t\r\n\v\f"
_LARGEST_EXACT_FLOAT = 2.0**53
_LARGEST_COUNT = 10**12
_LARGEST_AMOUNT = 1e15


def to_text(values: pl.Series) -> pl.Series:
    """Text without surrounding space; the empty text is null. Nested values become JSON."""
    text = _as_json(values) if values.dtype.is_nested() else values.cast(pl.String).str.strip_chars(_SPACE)
    if text.str.contains("\0", literal=True).any():
        text = text.str.replace_all("\0", "\N{REPLACEMENT CHARACTER}", literal=True)  # no database takes NUL
    return text.zip_with(text != "", pl.Series([None], dtype=pl.String))


def to_integers(values: pl.Series) -> pl.Series:
    """Whole numbers within 64 bits; `12.0` is 12, `12.5` and 2^63 are null."""
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    if not values.dtype.is_float():
        exact = values.cast(pl.String).cast(pl.Int64, strict=False)
        if exact.null_count() == values.null_count():
            return exact
        return first_known(exact, to_integers(to_reals(values)))
    is_whole = values.is_finite() & (values == values.round()) & (values.abs() <= _LARGEST_EXACT_FLOAT)
    return pl.select(pl.when(is_whole).then(values).cast(pl.Int64, strict=False)).to_series()


def to_counts(values: pl.Series) -> pl.Series:
    """Whole numbers up to a trillion: the sum of millions of them still fits 64 bits."""
    whole = to_integers(values)
    return whole.set((whole.abs() > _LARGEST_COUNT).fill_null(value=False), None)


def to_reals(values: pl.Series) -> pl.Series:
    """Floats; NaN and infinity pass, the caller decides what they mean."""
    return values.cast(pl.Float64, strict=False)


def to_money(values: pl.Series, scale: int = 10) -> pl.Series:
    """Exact decimals below 1e15, rounded to the scale; anything larger or not finite is null."""
    amount = to_reals(values)
    fits = amount.is_finite() & (amount.abs() < _LARGEST_AMOUNT)
    exact = values.round(scale) if values.dtype.is_float() else values
    return pl.select(pl.when(fits).then(exact).cast(pl.Decimal(38, scale), strict=False)).to_series()


def to_booleans(values: pl.Series) -> pl.Series:
    """True and false in their usual spellings."""
    if values.dtype == pl.Boolean:
        return values
    return values.cast(pl.String).str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)


def first_known(first: pl.Series, second: pl.Series) -> pl.Series:
    """The first value where there is one, else the second."""
    return first.zip_with(first.is_not_null(), second)


def _as_json(values: pl.Series) -> pl.Series:
    wrapped = values.rename("v").to_frame().to_struct().struct.json_encode()
    inner = wrapped.str.strip_prefix('{"v":').str.strip_suffix("}")
    return inner.zip_with(values.is_not_null(), pl.Series([None], dtype=pl.String))
