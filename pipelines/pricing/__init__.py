"""What executions cost where their source does not say: from dated list prices per model and kind of token.

Nothing is guessed: an execution that the price book cannot price stays unpriced, and `estimate` says why.
"""

from datetime import date
from decimal import Decimal

import polars as pl

from pipelines.execution import MONEY
from pipelines.pricing.book import DECIMALS, KINDS, PriceBook
from pipelines.record_types import EXECUTIONS
from pipelines.sources.source import Source

OBSTACLE = pl.Enum(
    [
        "no model",
        "unknown model",
        "no price on the day",
        "no tokens",
        "too many input tokens",
        "no price for a kind",
    ]
)
"""Why an execution cannot be priced. The first that applies is told."""

_ASKED = ["provider", "model", "day"]
_UNITS_PER_USD = 10**DECIMALS
"""A price in US dollars per million tokens is so many units per token: millionths of a millionth of a dollar."""
_UNITS_PER_STORED = 100
_STORED = Decimal("1E-10")
"""The smallest amount that MONEY holds."""
_RATES = pl.Schema(
    {
        "provider": pl.String(),
        "model": pl.String(),
        "day": pl.Date(),
        "obstacle": OBSTACLE,
        "up_to": pl.Int64(),
        **{f"{kind}_rate": pl.Int64() for kind in KINDS},
    }
)


def price(executions: pl.DataFrame, source: Source, prices: PriceBook) -> pl.DataFrame:
    """The executions with a cost where their source gives none and the price book has one."""
    if not source.compute_cost or source.record_type is not EXECUTIONS or executions["cost_usd"].null_count() == 0:
        return executions
    computed = estimate(executions, prices)["computed_usd"]
    is_computed = executions["cost_usd"].is_null() & computed.is_not_null()
    return executions.with_columns(
        cost_usd=executions["cost_usd"].zip_with(~is_computed, computed),
        cost_source=pl.when(is_computed).then(pl.lit("computed")).otherwise("cost_source"),
    )


def estimate(executions: pl.DataFrame, prices: PriceBook) -> pl.DataFrame:
    """What each execution costs by the price book: `computed_usd`, exact, or the `obstacle` why it cannot be told."""
    cached = [pl.col(name).fill_null(0) for name in ("cache_read_tokens", "cache_write_tokens")]
    used = executions.select(
        "provider",
        "model",
        pl.col("event_time").dt.date().alias("day"),
        "input_tokens",
        "output_tokens",
        (pl.col("input_tokens") - cached[0] - cached[1]).alias("input_used"),
        cached[0].alias("cache_read_used"),
        cached[1].alias("cache_write_used"),
        pl.col("output_tokens").alias("output_used"),
    )
    rates = _rates(used.select(_ASKED).unique(), prices)
    units = pl.sum_horizontal(map(_cost_of, KINDS), ignore_nulls=False)
    return (
        used.join(rates, on=_ASKED, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(_obstacle(), computed_usd=_as_money(units))
        .select(
            pl.when(pl.col("obstacle").is_null()).then("computed_usd").alias("computed_usd"),
            pl.coalesce(
                "obstacle", pl.when(pl.col("computed_usd").is_null()).then(pl.lit("no price for a kind", OBSTACLE))
            ),
        )
    )


def cache_saving(executions: pl.DataFrame, prices: PriceBook) -> pl.Series:
    """What caching saved each execution at list price, in USD: its input uncached, less its input as it was.

    Writing to a cache may cost more than it saves. Null where tokens, model or prices are unknown.
    """
    used = executions.select(
        "provider",
        "model",
        pl.col("event_time").dt.date().alias("day"),
        "input_tokens",
        pl.when(pl.col("input_tokens").is_not_null()).then(pl.col("cache_read_tokens").fill_null(0)).alias("read"),
        pl.col("cache_write_tokens").fill_null(0).alias("written"),
    )
    rates = _rates(used.select(_ASKED).unique(), prices)
    saved = [
        pl.when(pl.col(tokens) == 0)
        .then(pl.lit(0, pl.Int128))
        .otherwise(pl.col(tokens).cast(pl.Int128) * (pl.col("input_rate") - pl.col(f"{kind}_rate")))
        for tokens, kind in (("read", "cache_read"), ("written", "cache_write"))
    ]
    is_priced = pl.col("input_rate").is_not_null() & (pl.col("input_tokens") <= pl.col("up_to")).fill_null(value=True)
    units = pl.when(is_priced).then(pl.sum_horizontal(saved, ignore_nulls=False))
    priced = used.join(rates, on=_ASKED, how="left", nulls_equal=True, maintain_order="left")
    return priced.select(_as_money(units).alias("cache_saving_usd")).to_series()


def _obstacle() -> pl.Expr:
    tokens_unknown = pl.col("input_tokens").is_null() | pl.col("output_tokens").is_null()
    return (
        pl.when(pl.col("obstacle").is_not_null())
        .then("obstacle")
        .when(tokens_unknown)
        .then(pl.lit("no tokens", OBSTACLE))
        .when(pl.col("input_tokens") > pl.col("up_to"))
        .then(pl.lit("too many input tokens", OBSTACLE))
        .alias("obstacle")
    )


def _cost_of(kind: str) -> pl.Expr:
    """The cost of one kind of tokens in units: nothing for no tokens, null for tokens without a price."""
    used = pl.col(f"{kind}_used").cast(pl.Int128)
    return pl.when(used == 0).then(pl.lit(0, pl.Int128)).otherwise(used * pl.col(f"{kind}_rate"))


def _as_money(units: pl.Expr) -> pl.Expr:
    """Units as exact money. What MONEY cannot hold is rounded half to even."""
    whole, rest = units // _UNITS_PER_STORED, units % _UNITS_PER_STORED
    half = _UNITS_PER_STORED // 2
    is_up = (rest > half) | ((rest == half) & (whole % 2 == 1))
    return ((whole + is_up.cast(pl.Int128)).cast(pl.Decimal(38, 0)) * pl.lit(_STORED)).cast(MONEY)


def _rates(asked: pl.DataFrame, prices: PriceBook) -> pl.DataFrame:
    """The price of each provider, model and day, in units per token. There are few of them."""
    rows = [(*key, *_rate(prices, *key)) for key in asked.iter_rows()]
    return pl.DataFrame(rows, schema=_RATES, orient="row")


def _rate(prices: PriceBook, provider: str | None, model: str | None, day: date) -> tuple[str | int | None, ...]:
    if model is None:
        return _no_rate("no model")
    found = prices.find(model, provider)
    if found is None:
        return _no_rate("unknown model")
    held = found.on(day)
    if held is None:
        return _no_rate("no price on the day")
    amounts = [getattr(held, kind) for kind in KINDS]
    return None, held.up_to_input_tokens, *(None if usd is None else int(usd * _UNITS_PER_USD) for usd in amounts)


def _no_rate(obstacle: str) -> tuple[str | None, ...]:
    return obstacle, None, *(None for _ in KINDS)
