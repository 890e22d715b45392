"""Mapped values -> typed columns, without loss: what a column cannot hold is rejected, what means nothing is null."""

import polars as pl

from pipelines.clean.draft import flag, reject
from pipelines.execution import COUNT, MONEY, REAL, TEXTS, TIMESTAMP, Column
from pipelines.record_types import FLAG
from pipelines.sources.casting import to_booleans, to_counts, to_money, to_reals, to_text
from pipelines.sources.mapping import TimeUnit
from pipelines.sources.source import Source

_MILLISECONDS: dict[TimeUnit, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def type_values(draft: pl.DataFrame, mapped: pl.DataFrame, source: Source) -> pl.DataFrame:
    """The draft with every mappable column but the times, each in its type; null where nothing is mapped."""
    for name, column in source.record_type.mappable.items():
        if column.dtype == TIMESTAMP:
            continue
        if name not in mapped.columns:
            draft = draft.with_columns(pl.lit(None, column.dtype).alias(name))
        elif column.dtype in (COUNT, REAL, MONEY):
            draft = _add_number(draft, column, mapped[name], source.mapping[name].unit)
        elif column.dtype == FLAG:
            draft = _add_flag(draft, name, mapped[name])
        elif column.dtype == TEXTS:
            draft = draft.with_columns(_to_word_list(mapped[name]).alias(name))
        else:
            text = mapped[name] if mapped[name].dtype == pl.String else to_text(mapped[name])
            draft = draft.with_columns(text.alias(name))
    return draft


def _add_flag(draft: pl.DataFrame, name: str, values: pl.Series) -> pl.DataFrame:
    """One yes-or-no column; a misfit is rejected."""
    typed = to_booleans(values)
    is_misfit = pl.lit(values.is_not_null() & typed.is_null())
    return draft.with_columns(typed.alias(name)).pipe(reject, is_misfit, "bad_value", pl.lit(name))


def _add_number(draft: pl.DataFrame, column: Column, values: pl.Series, unit: TimeUnit | None) -> pl.DataFrame:
    """One number column. NaN and infinity are null and flagged, so are numbers below zero; a misfit is rejected."""
    name, dtype = column.name, column.dtype
    real = to_reals(values)
    is_finite = real.is_finite()
    if name.endswith("_ms"):
        typed = to_counts((real * _MILLISECONDS[unit or "ms"]).round())
    else:
        typed = to_counts(values) if dtype == COUNT else to_money(values) if dtype == MONEY else real
    usable = pl.select(pl.when(is_finite & (real >= 0)).then(typed)).to_series()
    return (
        draft.with_columns(usable.alias(name))
        .pipe(flag, "not_a_number", pl.lit(~is_finite))
        .pipe(flag, "negative_value", pl.lit(real < 0))
        .pipe(
            reject,
            pl.lit(values.is_not_null() & (real.is_null() | (is_finite & typed.is_null()))),
            "bad_value",
            pl.lit(name),
        )
    )


def _to_word_list(values: pl.Series) -> pl.Series:
    """Distinct words, sorted, from a list, a JSON list or a comma-separated text. Few distinct lists are expected."""
    written = to_text(values)
    unique = written.drop_nulls().unique()
    words = unique.str.strip_chars("[]").str.split(",").list.eval(pl.element().str.strip_chars(" \t\"'"))
    distinct = words.list.eval(pl.element().filter(pl.element() != "").unique().sort())
    table = pl.DataFrame({"written": unique, "words": distinct})
    return written.to_frame("written").join(table, on="written", how="left", maintain_order="left")["words"]
