"""A published day as numbers: the additive hourly cube, and exact metrics by agent and hour, by agent, and by model."""

from collections.abc import Callable

import polars as pl

from pipelines.rollup.metrics import activity, additive_metrics, first_and_last, metrics, sum_known
from pipelines.validate.verdict import Finding, Verdict
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import PublishedDay
from pipelines.warehouse.ledger import Load, content_digest
from pipelines.warehouse.publish import replace_rows

CUBE = "execution_rollup_hourly"
AGENT_HOURLY = "agent_metrics_hourly"
AGENT_DAILY = "agent_metrics_daily"
MODEL_DAILY = "model_metrics_daily"
USER_DAILY = "user_activity_daily"

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


class ConservationError(Exception):
    """Two tables of one day contradict each other; neither is published."""


def roll_up(day: PublishedDay, categorize: Categorize, warehouse: Warehouse) -> tuple[dict[str, int], Verdict]:
    """Publish all rollups of a day in one transaction: rows by table, and the verdict on their conservation.

    Raises ConservationError, with nothing changed, where the tables contradict each other.
    """
    tables = compute(day.rows, categorize)
    verdict = judge(tables, day.rows)
    if verdict.blocks:
        raise ConservationError(f"{day.day}: {verdict.message}")
    content = content_digest("rollups", day.content)
    replace_rows(
        warehouse,
        [(Load(table=name, day=day.day, content=content, rows=rows.height), rows) for name, rows in tables.items()],
        basis=day.basis,
    )
    return {name: rows.height for name, rows in tables.items()}, verdict


def compute(executions: pl.DataFrame, categorize: Categorize) -> dict[str, pl.DataFrame]:
    """The rollup tables of one day of executions, by name. The executions are in the order of their event times."""
    rows = executions.with_columns(
        categorize(executions).alias("failure_category"),
        day=pl.col("event_time").dt.date(),
        hour=pl.col("event_time").dt.truncate("1h"),
    )
    latest_name = pl.col("agent_name").last()
    return {
        CUBE: _group(rows, ["day", "hour", *_DIMENSIONS], additive_metrics()),
        AGENT_HOURLY: _group(rows, ["day", "hour", "agent_id"], [latest_name, *metrics()]),
        AGENT_DAILY: _group(rows, ["day", "agent_id"], [latest_name, *first_and_last(), *metrics()]),
        MODEL_DAILY: _group(rows, ["day", "provider", "model"], metrics()),
        USER_DAILY: _group(rows.drop_nulls("user_key"), ["day", "user_key", "agent_id"], activity()),
    }


def judge(tables: dict[str, pl.DataFrame], executions: pl.DataFrame) -> Verdict:
    """Every table tells the same totals: hours add up to the day, models to the agents, and all to the executions."""
    truth = executions.select(
        execution_count=pl.len(),
        duration_count=pl.col("duration_ms").count(),
        priced_count=pl.col("cost_usd").count(),
        cost_usd=sum_known("cost_usd"),
        input_tokens=sum_known("input_tokens"),
    ).row(0, named=True)
    identified = {"execution_count": executions["user_key"].count()}
    findings = [
        Finding(rule=f"{name}.{column} adds up", failed=1, of=1)
        for name, table in tables.items()
        for column, total in (identified if name == USER_DAILY else truth).items()
        if (table.select(sum_known(column)).item() or 0) != (total or 0)
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


def _group(rows: pl.DataFrame, keys: list[str], measures: list[pl.Expr]) -> pl.DataFrame:
    return rows.group_by(keys).agg(measures).sort(keys, nulls_last=True)
