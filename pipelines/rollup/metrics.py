"""The metrics, defined once: what is counted, summed and ranked, each beside the number of rows it rests on.

Sums are integers or decimals, so the order of rows cannot change them. Percentiles are exact, interpolated as SQL's
`percentile_cont` does, and null below the sample they need. Unknown is null, never 0.
"""

import polars as pl

from pipelines.execution import FAILURES, STATUSES

MIN_SAMPLE = {50: 1, 95: 20, 99: 100}
"""Fewest durations from which a percentile is told."""


def count_where(condition: pl.Expr) -> pl.Expr:
    """How many rows satisfy the condition; null counts as no."""
    return condition.fill_null(value=False).sum().cast(pl.Int64)


def sum_known(column: str) -> pl.Expr:
    """The sum of the known values; null where none is known."""
    return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum())


def additive_metrics() -> list[pl.Expr]:
    """Counts and sums that add up over any rows: the measures of the cubes."""
    return [
        pl.len().cast(pl.Int64).alias("execution_count"),
        pl.col("duration_ms").count().cast(pl.Int64).alias("duration_count"),
        sum_known("duration_ms").alias("duration_sum_ms"),
        pl.col("ttft_ms").count().cast(pl.Int64).alias("ttft_count"),
        sum_known("ttft_ms").alias("ttft_sum_ms"),
        *_usage(),
        sum_known("cache_write_tokens").alias("cache_write_tokens"),
        sum_known("reasoning_tokens").alias("reasoning_tokens"),
        sum_known("llm_calls").alias("llm_calls"),
        sum_known("tool_calls").alias("tool_calls"),
        sum_known("files_modified").alias("files_modified"),
    ]


def added_up() -> list[pl.Expr]:
    """The same measures of larger cells, from those of smaller ones."""
    return [sum_known(measure.meta.output_name()) for measure in additive_metrics()]


def cell_metrics() -> list[pl.Expr]:
    """The metrics of a group of executions that its cells in a cube tell."""
    count = pl.col("execution_count")
    of_status = {status: count.filter(pl.col("status") == status).sum() for status in STATUSES}
    return [
        count.sum(),
        *[of.alias(f"{status}_count") for status, of in of_status.items()],
        count.filter(pl.col("status").is_in(FAILURES)).sum().alias("failure_count"),
        (of_status["success"] / count.sum()).alias("success_rate"),
        ((of_status["success"] + of_status["partial"]) / count.sum()).alias("success_rate_with_partial"),
        pl.col("duration_count").sum(),
        (sum_known("duration_sum_ms") / pl.col("duration_count").sum()).alias("duration_avg_ms"),
        (count.sum() - pl.col("priced_count").sum()).alias("unpriced_count"),
        *[sum_known(measure.meta.output_name()) for measure in _usage()],
    ]


def row_metrics() -> list[pl.Expr]:
    """The metrics of a group of executions that do not add up, exact at the group's own grain."""
    duration = pl.col("duration_ms")
    return [
        pl.col("user_key").drop_nulls().n_unique().cast(pl.Int64).alias("user_count"),
        pl.col("user_key").count().cast(pl.Int64).alias("identified_count"),
        duration.min().alias("duration_min_ms"),
        duration.max().alias("duration_max_ms"),
        *[_percentile(duration, percent).alias(f"duration_p{percent}_ms") for percent in MIN_SAMPLE],
    ]


def activity() -> list[pl.Expr]:
    """What a user did with an agent: counts that add up over days, what of, and when.

    `quarters` are the quarters of an hour since midnight UTC in which the user was active, ascending, `quarter_counts`
    the executions in each: local hours of every zone are made of them.
    """
    time = pl.col("event_time").dt
    quarters = (time.hour().cast(pl.Int32) * 4 + time.minute() // 15).sort().rle().struct
    return [
        pl.len().cast(pl.Int64).alias("execution_count"),
        count_where(pl.col("status") == "success").alias("success_count"),
        count_where(pl.col("status").is_in(FAILURES)).alias("failure_count"),
        *first_and_last(),
        *_sum_of_credits(),
        pl.col("execution_type").unique().sort(nulls_last=True).alias("execution_types"),
        quarters.field("value").alias("quarters"),
        quarters.field("len").cast(pl.Int32).alias("quarter_counts"),
    ]


def first_and_last() -> list[pl.Expr]:
    """When the first and the last execution counts."""
    return [pl.col("event_time").min().alias("first_at"), pl.col("event_time").max().alias("last_at")]


def _usage() -> list[pl.Expr]:
    return [
        pl.col("cost_usd").count().cast(pl.Int64).alias("priced_count"),
        sum_known("cost_usd").alias("cost_usd"),
        count_where(pl.col("input_tokens").is_not_null()).alias("metered_count"),
        sum_known("input_tokens").alias("input_tokens"),
        _sum_of_metered("cache_read_tokens").alias("cache_read_tokens"),
        sum_known("output_tokens").alias("output_tokens"),
        count_where((pl.col("cache_read_tokens") > 0) & pl.col("input_tokens").is_not_null()).alias("cache_read_count"),
        *_sum_of_credits(),
    ]


def _sum_of_credits() -> list[pl.Expr]:
    return [pl.col("credits").count().cast(pl.Int64).alias("credited_count"), sum_known("credits").alias("credits")]


def _sum_of_metered(column: str) -> pl.Expr:
    """The sum over rows whose input is known, so that it is a part of their input."""
    known = pl.col(column).filter(pl.col("input_tokens").is_not_null())
    return pl.when(known.count() > 0).then(known.sum())


def _percentile(values: pl.Expr, percent: int) -> pl.Expr:
    exact = values.quantile(percent / 100, interpolation="linear")
    return pl.when(values.count() >= MIN_SAMPLE[percent]).then(exact)
