"""What failed on a day: the signature of each failure, and how often each happened where, when and to whom.

A pure function of the day's executions. Everything else about failures is derived from the facts of all days.
"""

import polars as pl

from pipelines.execution import TEXTS, TIMESTAMP
from pipelines.failures.classify import categorize, classify
from pipelines.failures.fingerprint import identify, normalise
from pipelines.failures.text import failure_text, is_failure
from pipelines.warehouse.connection import Warehouse

SIGNATURES = "failure_signatures_daily"
OCCURRENCES = "failure_occurrences"

DIMENSIONS = ("environment", "release", "agent_id", "agent_version", "execution_type", "provider", "model")
"""What a failure is told apart by besides its signature; all but the release are dimensions of the cubes too."""

COLUMNS = (
    "event_time",
    "source",
    "execution_id",
    "status",
    "error_type",
    "error_message",
    "stack",
    "user_key",
    "session_key",
    "input_shape_id",
    "occurrences",
    *DIMENSIONS,
)
"""What is read of an execution."""

_SAMPLES = 5
FACTS = pl.Schema(
    {
        "day": pl.Date(),
        "signature_id": pl.String(),
        **dict.fromkeys(DIMENSIONS, pl.String()),
        "template": pl.String(),
        "match_key": pl.String(),
        "category": pl.String(),
        "severity": pl.String(),
        "fault_domain": pl.String(),
        "occurrence_count": pl.Int64(),
        "reported_count": pl.Int64(),
        "first_seen_at": TIMESTAMP,
        "second_seen_at": TIMESTAMP,
        "third_seen_at": TIMESTAMP,
        "previous_seen_at": TIMESTAMP,
        "last_seen_at": TIMESTAMP,
        "session_count": pl.Int64(),
        "ended_session_count": pl.Int64(),
        "shaped_count": pl.Int64(),
        "same_input_count": pl.Int64(),
        "user_keys": TEXTS,
        "sample_message": pl.String(),
        "sample_execution_ids": TEXTS,
    }
)
"""Grain: one UTC day, signature and cell of the dimensions.

`reported_count` adds the repetitions that a source counts without telling their times. Of many occurrences, the first
three and the last two are all that a rule across days can need; `edge_times` lists those there are. A session counts
where the signature hit it first, and as ended where the failure was its last execution of the day: so both add up.
`same_input_count` are the runs of the cell whose input had the shape of one that failed so; `shaped_count` are the
failures whose input has a known shape.
"""

OCCURRENCE = pl.Schema(
    {
        "day": pl.Date(),
        "source": pl.String(),
        "execution_id": pl.String(),
        "event_time": TIMESTAMP,
        "signature_id": pl.String(),
    }
)
"""Grain: one failed execution, and what failed."""

_CELL = ("day", "signature_id", *DIMENSIONS)


def categorize_failures(executions: pl.DataFrame) -> pl.Series:
    """The failure category of each execution; null where it is no failure."""
    return categorize(executions.select(pl.when(is_failure()).then(failure_text())).to_series())


def read_facts(warehouse: Warehouse) -> pl.DataFrame:
    """All daily failure facts, in a fixed order."""
    order = ", ".join(f'{name} collate "C"' for name in _CELL[1:])
    facts = warehouse.read(f"select * from agentmill.{SIGNATURES} order by day, {order}")  # noqa: S608 - our own words
    return facts.match_to_schema(FACTS) if facts.height else FACTS.to_frame()


def derive_facts(executions: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of facts about one day's failures, by name."""
    failures = _identified(executions)
    return {SIGNATURES: _facts(failures, executions), OCCURRENCES: failures.select(OCCURRENCE.names())}


def signature_facts(executions: pl.DataFrame) -> pl.DataFrame:
    """The facts by signature alone."""
    return _facts(_identified(executions), executions)


def edge_times() -> pl.Expr:
    """The occurrence times that a row of FACTS tells, each occurrence once."""
    names = ("first_seen_at", "second_seen_at", "third_seen_at", "previous_seen_at", "last_seen_at")
    first, second, third, previous, last = (pl.col(name) for name in names)
    count = pl.col("occurrence_count")
    return (
        pl.when(count == 1)
        .then(pl.concat_list(first))
        .when(count == 2)  # noqa: PLR2004
        .then(pl.concat_list(first, last))
        .when(count == 3)  # noqa: PLR2004
        .then(pl.concat_list(first, second, last))
        .when(count == 4)  # noqa: PLR2004
        .then(pl.concat_list(first, second, third, last))
        .otherwise(pl.concat_list(first, second, third, previous, last))
    )


def _identified(executions: pl.DataFrame) -> pl.DataFrame:
    """The failures in the order of their times, with text, match_key and signature_id."""
    failures = executions.filter(is_failure()).sort("event_time", "source", "execution_id")
    failures = failures.with_columns(failure_text().alias("text"), day=pl.col("event_time").dt.date())
    return failures.with_columns(*identify(failures["text"], failures["stack"]))


def _facts(failures: pl.DataFrame, executions: pl.DataFrame) -> pl.DataFrame:
    times = pl.col("event_time")
    has_session = pl.col("session_key").is_not_null()
    facts = (
        failures.with_columns(
            is_first_of_session=has_session & pl.struct("signature_id", "session_key", "day").is_first_distinct()
        )
        .join(_session_ends(executions), on=["source", "execution_id", "event_time"], how="left", maintain_order="left")
        .group_by(_CELL)
        .agg(
            pl.col("match_key", "stack").first(),
            occurrence_count=pl.len().cast(pl.Int64),
            reported_count=pl.max_horizontal(pl.col("occurrences").fill_null(1), 1).sum(),
            first_seen_at=times.first(),
            second_seen_at=times.get(1, null_on_oob=True),
            third_seen_at=times.get(2, null_on_oob=True),
            previous_seen_at=times.get(-2, null_on_oob=True),
            last_seen_at=times.last(),
            session_count=pl.col("is_first_of_session").sum().cast(pl.Int64),
            ended_session_count=pl.col("ends_session").sum().cast(pl.Int64),
            shaped_count=pl.col("input_shape_id").count().cast(pl.Int64),
            user_keys=pl.col("user_key").drop_nulls().unique().sort(),
            sample_message=pl.col("text").first(),
            sample_execution_ids=pl.col("execution_id").head(_SAMPLES),
        )
        .join(_same_inputs(failures, executions), on=_CELL, how="left", nulls_equal=True)
        .with_columns(pl.col("same_input_count").fill_null(0))
    )
    kinds = classify(facts["match_key"]).select("category", "severity", "fault_domain")
    templates = normalise(facts["sample_message"], facts["stack"])["template"]
    return facts.with_columns(*kinds, templates).select(FACTS.names()).sort(_CELL, nulls_last=True)


def _session_ends(executions: pl.DataFrame) -> pl.DataFrame:
    """The last execution of each session of the day."""
    told = executions.filter(pl.col("session_key").is_not_null()).sort("event_time", "source", "execution_id")
    ends = told.unique("session_key", keep="last", maintain_order=True)
    return ends.select("source", "execution_id", "event_time", ends_session=pl.lit(1))


def _same_inputs(failures: pl.DataFrame, executions: pl.DataFrame) -> pl.DataFrame:
    """same_input_count by cell: the runs, failed or not, whose input had the shape of one that failed so."""
    shape = [*DIMENSIONS, "input_shape_id"]
    runs = executions.filter(pl.col("input_shape_id").is_not_null()).group_by(shape).len("same_input_count")
    failing = failures.filter(pl.col("input_shape_id").is_not_null()).select(*_CELL, "input_shape_id").unique()
    counted = failing.join(runs, on=shape, how="left", nulls_equal=True)
    return counted.group_by(_CELL).agg(pl.col("same_input_count").sum().cast(pl.Int64))
