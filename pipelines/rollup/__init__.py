"""A published day as numbers: additive cubes by hour, day and quarter of an hour; exact metrics by agent and model."""

import math
from collections.abc import Callable, Iterable

import polars as pl

from pipelines.pricing import cache_saving
from pipelines.pricing.book import PriceBook
from pipelines.rollup.metrics import activity, additive_metrics, first_and_last, metrics, sum_known
from pipelines.rollup.sketch import ACCURACY, count, merge, quantile, sketches
from pipelines.validate.verdict import Finding, Verdict

CUBE = "execution_rollup_hourly"
CUBE_DAILY = "execution_rollup_daily"
CUBE_QUARTER_HOURLY = "execution_rollup_quarter_hourly"
"""For zones such as +05:45, whose hours and days begin at a quarter of a UTC hour."""
AGENT_HOURLY = "agent_metrics_hourly"
AGENT_DAILY = "agent_metrics_daily"
MODEL_DAILY = "model_metrics_daily"
USER_DAILY = "user_activity_daily"

TABLES = (CUBE, CUBE_DAILY, CUBE_QUARTER_HOURLY, AGENT_HOURLY, AGENT_DAILY, MODEL_DAILY, USER_DAILY)

Categorize = Callable[[pl.DataFrame], pl.Series]
"""Names the failure category of each execution; null where it is no failure."""

_DIMENSIONS = (
    "agent_id",
    "agent_version",
    "environment",
    "execution_type",
    "provider",
    "model",
    "status",
    "failure_category",
)

_MEASURED = (
    "duration_ms",
    "ttft_ms",
    "cost_usd",
    "credits",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "llm_calls",
    "tool_calls",
    "files_modified",
)
COLUMNS = ("event_time", "agent_name", "user_key", "error_type", "error_message", *_DIMENSIONS[:-1], *_MEASURED)
"""What is read of an execution."""

_SKETCHES = {"duration_sketch": "duration_ms", "ttft_sketch": "ttft_ms", "cost_sketch": "cost_usd"}
_CHECKED_PERCENTS = (50, 95, 99)


def compute(executions: pl.DataFrame, categorize: Categorize, prices: PriceBook) -> dict[str, pl.DataFrame]:
    """The rollup tables of one day of executions, by name. The executions are in the order of their event times."""
    rows = executions.with_columns(
        categorize(executions).alias("failure_category"),
        cache_saving(executions, prices),
        day=pl.col("event_time").dt.date(),
        hour=pl.col("event_time").dt.truncate("1h"),
        quarter=pl.col("event_time").dt.truncate("15m"),
    )
    latest_name = pl.col("agent_name").last()
    return {
        CUBE: _group(rows, ["day", "hour", *_DIMENSIONS], additive_metrics(), _SKETCHES),
        CUBE_DAILY: _group(rows, ["day", *_DIMENSIONS], additive_metrics(), _SKETCHES),
        CUBE_QUARTER_HOURLY: _group(rows, ["day", "quarter", *_DIMENSIONS], additive_metrics(), _SKETCHES),
        AGENT_HOURLY: _group(rows, ["day", "hour", "agent_id"], [latest_name, *metrics()], ["duration_sketch"]),
        AGENT_DAILY: _group(rows, ["day", "agent_id"], [latest_name, *first_and_last(), *metrics()], _SKETCHES),
        MODEL_DAILY: _group(rows, ["day", "provider", "model"], [*metrics(), sum_known("cache_saving_usd")], _SKETCHES),
        USER_DAILY: _group(rows.drop_nulls("user_key"), ["day", "user_key", "agent_id"], activity()),
    }


def judge(tables: dict[str, pl.DataFrame], executions: pl.DataFrame) -> Verdict:
    """Every table tells the same totals: hours and quarters add up to the day, models to agents, all to executions."""
    truth = executions.select(additive_metrics()).row(0, named=True)
    truth |= {sketch: executions[column].count() for sketch, column in _SKETCHES.items()}
    identified = {"execution_count": executions["user_key"].count()}
    findings = [
        Finding(rule=f"{name}.{column} adds up", failed=1, of=1)
        for name, table in tables.items()
        for column, total in (identified if name == USER_DAILY else truth).items()
        if column in table.columns and _total(table[column]) != (total or 0)
    ]
    return Verdict(
        check="rollups_conserve",
        severity="error",
        passed=not findings,
        message="; ".join(f"{finding.rule}: it does not" for finding in findings)
        or f"{len(tables)} tables agree on {truth['execution_count']} executions",
        figures={"executions": truth["execution_count"], **{name: table.height for name, table in tables.items()}},
        findings=findings,
    )


def judge_sketches(tables: dict[str, pl.DataFrame], executions: pl.DataFrame) -> Verdict:
    """Quantiles of the day's durations from its merged sketches are within 1 % of the exact ones.

    A quantile between two ranks may be any value between theirs.
    """
    exact, sketch = executions["duration_ms"].drop_nulls().sort(), merge(tables[CUBE]["duration_sketch"])
    errors = {f"p{percent}": _error(exact, sketch, percent / 100) for percent in _CHECKED_PERCENTS}
    findings = [
        Finding(rule=f"{name} is within {ACCURACY:.0%}", failed=1, of=1)
        for name, error in errors.items()
        if error > ACCURACY + 1e-9
    ]
    return Verdict(
        check="sketch_accuracy",
        severity="warning",
        passed=not findings,
        message=", ".join(f"{name} is {error:.2%} off" for name, error in errors.items()),
        figures={"durations": exact.len(), **{f"{name}_error": round(error, 6) for name, error in errors.items()}},
        findings=findings,
    )


def _total(values: pl.Series) -> object:
    return count(values) if isinstance(values.dtype, pl.List) else values.sum()


def _error(exact: pl.Series, sketch: list[int] | None, q: float) -> float:
    """How far the sketch's quantile lies outside the values of the ranks around it, relative to the nearer one."""
    told = quantile(sketch, q)
    if told is None or exact.is_empty():
        return 0.0 if told is None and exact.is_empty() else math.inf
    rank = q * (exact.len() - 1)
    low, high = exact[math.floor(rank)], exact[math.ceil(rank)]
    nearest = min(max(told, low), high)
    return abs(told - nearest) / nearest if nearest else abs(told)


def _group(rows: pl.DataFrame, keys: list[str], measures: list[pl.Expr], sketched: Iterable[str] = ()) -> pl.DataFrame:
    """One row per key; groups are found once, by long keys of text, and their sketches by number."""
    numbered = rows.with_row_index("group").with_columns(pl.col("group").min().over(keys))
    table = numbered.group_by("group").agg(pl.col(keys).first(), *measures)
    for name in sketched:
        column = _SKETCHES[name]
        table = table.join(sketches(numbered, "group", column).rename({column: name}), on="group", how="left")
    return table.drop("group").sort(keys, nulls_last=True)
