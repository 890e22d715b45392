"""A published day as numbers: additive cubes by hour, day and quarter of an hour; exact metrics by agent and model."""

import math
from collections.abc import Callable, Iterable

import polars as pl

from pipelines.pricing import cache_saving
from pipelines.pricing.book import PriceBook
from pipelines.rollup.metrics import (
    activity,
    added_up,
    additive_metrics,
    cell_metrics,
    first_and_last,
    row_metrics,
    sum_known,
)
from pipelines.rollup.sketch import ACCURACY, bucket, count, merge, quantile, sketches
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
    """The rollup tables of one day of executions, by name. The executions are in the order of their event times.

    Keys of text are looked up once per execution, to find its cell of the finest cube; all else follows from cells.
    """
    rows = executions.with_columns(
        categorize(executions).alias("failure_category"),
        cache_saving(executions, prices),
        *(bucket(column).alias(name) for name, column in _SKETCHES.items()),
        day=pl.col("event_time").dt.date(),
        quarter=pl.col("event_time").dt.truncate("15m"),
    )
    finest = ["day", "quarter", *_DIMENSIONS]
    rows = rows.with_columns(_numbered(rows, finest).alias("cell"))
    cells = rows.group_by("cell").agg(pl.col(finest).first(), *additive_metrics()).sort("cell")
    cells = cells.with_columns(hour=pl.col("quarter").dt.truncate("1h"))
    latest_name, saving = pl.col("agent_name").last(), sum_known("cache_saving_usd")

    def _table(keys: list[str], added: list[pl.Expr], ranked: list[pl.Expr], sketched: Iterable[str]) -> pl.DataFrame:
        """One row per key: what adds up from the cells, the rest from the executions."""
        group_of_cell = _numbered(cells, keys)
        group = group_of_cell.gather(rows["cell"]).alias("group")
        table = cells.group_by(group_of_cell.alias("group")).agg(pl.col(keys).first(), *added)
        parts = [sketches(group, rows[name]).rename({"sketch": name}) for name in sketched]
        if ranked:
            parts.append(rows.group_by(group).agg(ranked))
        for part in parts:
            table = table.join(part, on="group", how="left")
        return table.drop("group").sort(keys, nulls_last=True)

    return {
        CUBE: _table(["day", "hour", *_DIMENSIONS], added_up(), [], _SKETCHES),
        CUBE_DAILY: _table(["day", *_DIMENSIONS], added_up(), [], _SKETCHES),
        CUBE_QUARTER_HOURLY: _table(finest, added_up(), [], _SKETCHES),
        AGENT_HOURLY: _table(
            ["day", "hour", "agent_id"], cell_metrics(), [latest_name, *row_metrics()], ["duration_sketch"]
        ),
        AGENT_DAILY: _table(
            ["day", "agent_id"], cell_metrics(), [latest_name, *first_and_last(), *row_metrics()], _SKETCHES
        ),
        MODEL_DAILY: _table(["day", "provider", "model"], cell_metrics(), [*row_metrics(), saving], _SKETCHES),
        USER_DAILY: _user_activity(rows),
    }


def judge(tables: dict[str, pl.DataFrame], executions: pl.DataFrame) -> Verdict:
    """Every table tells the same totals: hours and quarters add up to the day, models to agents, all to executions.

    And the same users, who are counted once each.
    """
    truth = executions.select(additive_metrics()).row(0, named=True)
    truth |= {sketch: executions[column].count() for sketch, column in _SKETCHES.items()}
    identified = {"execution_count": executions["user_key"].count()}
    findings = [
        Finding(rule=f"{name}.{column} adds up", failed=1, of=1)
        for name, table in tables.items()
        for column, total in (identified if name == USER_DAILY else truth).items()
        if column in table.columns and _total(table[column]) != (total or 0)
    ]
    active = tables[USER_DAILY]
    users = {
        f"{AGENT_DAILY}.user_count": (_total(tables[AGENT_DAILY]["user_count"]), active.height),
        f"{USER_DAILY}.user_key": (active["user_key"].n_unique(), executions["user_key"].drop_nulls().n_unique()),
    }
    findings += [
        Finding(rule=f"{name} adds up", failed=1, of=1) for name, (told, true) in users.items() if told != true
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


def _numbered(rows: pl.DataFrame, keys: list[str]) -> pl.Series:
    """The number of each row's group: from 0, by first appearance."""
    indexed = rows.select(*keys).with_row_index("row").select("row", first=pl.col("row").min().over(keys))
    return indexed.select((pl.col("row") == pl.col("first")).cum_sum().gather("first") - 1).to_series()


def _user_activity(rows: pl.DataFrame) -> pl.DataFrame:
    keys = ["day", "user_key", "agent_id"]
    known = rows.select(*keys, "status", "event_time", "credits", "execution_type").drop_nulls("user_key")
    return known.group_by(keys).agg(activity()).sort(keys)
