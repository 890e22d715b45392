"""What is derived from the facts of all days, decisions and tests: clusters, their states, what is different.

A pure function of what was published and said, in whatever order; all its tables change in one moment.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from pipelines.failures.cluster import Clusters, cluster
from pipelines.failures.decisions import of_clusters, read_decisions
from pipelines.failures.differences import find_differences
from pipelines.failures.escalation import LifeCycleRules
from pipelines.failures.facts import DIMENSIONS, SIGNATURES, edge_times, read_facts
from pipelines.failures.lifecycle import DECISIONS, PASSES, derive_states
from pipelines.failures.summary import summarise
from pipelines.rollup import CUBE_DAILY
from pipelines.settings import FailureSettings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

CLUSTERS = "failure_clusters"
CLUSTER_SIGNATURES = "failure_cluster_signatures"
STATES = "failure_states"
TRANSITIONS = "failure_transitions"
DIFFERENCES = "failure_differences"

_CUBED = [name for name in DIMENSIONS if name != "release"]
EXECUTION_COUNTS = pl.Schema({"day": pl.Date(), **dict.fromkeys(_CUBED, pl.String()), "execution_count": pl.Int64()})
"""Grain: UTC day and cell of the dimensions that the cubes have."""

_DEFAULTS = FailureSettings()


@dataclass(frozen=True, slots=True)
class History:
    """All that failures are judged by: facts and executions by day, what people decided, and tests that passed."""

    facts: pl.DataFrame
    executions: pl.DataFrame
    decisions: pl.DataFrame = field(default_factory=DECISIONS.to_frame)
    passes: pl.DataFrame = field(default_factory=PASSES.to_frame)

    @property
    def as_of(self) -> datetime:
        """The end of the data, or the last decision if that came later."""
        last_day = self.executions["day"].max() or self.facts["day"].max()
        end = _midnight(last_day if isinstance(last_day, date) else ALL_DAYS) + timedelta(days=1)
        decided = self.decisions["effective_at"].max()
        return max(end, decided) if isinstance(decided, datetime) else end


def publish_clusters(
    warehouse: Warehouse, settings: FailureSettings = _DEFAULTS, passes: pl.DataFrame | None = None
) -> dict[str, pl.DataFrame]:
    """Derive the tables about clusters, publish them in one transaction, and return them by name.

    `passes` are the regression tests that passed. Raises BusyError where facts change meanwhile.
    """
    contents = table_contents(warehouse, SIGNATURES)
    history = read_history(warehouse, passes)
    tables = derive_clusters(history, settings)
    told = [history.decisions.write_json(), history.passes.write_json(), settings.model_dump_json()]
    content = content_digest(CLUSTERS, contents, told)
    loads = [(Load(table=name, day=ALL_DAYS, content=content, rows=rows.height), rows) for name, rows in tables.items()]
    replace_rows(warehouse, loads, basis=while_made_of(SIGNATURES, contents))
    return tables


def read_history(warehouse: Warehouse, passes: pl.DataFrame | None = None) -> History:
    """What is published of failures, and what people decided."""
    told = PASSES.to_frame() if passes is None else passes
    return History(read_facts(warehouse), read_execution_counts(warehouse), read_decisions(warehouse), told)


def read_execution_counts(warehouse: Warehouse) -> pl.DataFrame:
    """All executions, counted by day and dimension."""
    cells = ", ".join(["day", *_CUBED])
    counts = warehouse.read(
        f"select {cells}, sum(execution_count)::bigint as execution_count from agentmill.{CUBE_DAILY} group by {cells}"  # noqa: S608 - our own words
    )
    return counts.match_to_schema(EXECUTION_COUNTS) if counts.height else EXECUTION_COUNTS.to_frame()


def derive_clusters(history: History, settings: FailureSettings = _DEFAULTS) -> dict[str, pl.DataFrame]:
    """The tables about clusters, by name.

    A cluster's id is the signature of its earliest member (day, then id), so every id ever published is one of its
    `signature_ids`.
    """
    facts, executions = history.facts, history.executions
    found = find_clusters(facts)
    activity = executions.group_by("day").agg(pl.col("execution_count").sum())
    lives = derive_states(
        _daily(facts, found.members),
        executions.group_by("environment", "day").agg(pl.col("execution_count").sum()),
        _versions(executions),
        of_clusters(history.decisions, found.members),
        of_clusters(history.passes, found.members),
        history.as_of,
        LifeCycleRules(silent_days=settings.silent_days),
    )
    return {
        CLUSTERS: summarise(facts, found.members, activity),
        CLUSTER_SIGNATURES: _aliases(facts, found.members),
        STATES: lives.states,
        TRANSITIONS: lives.transitions,
        DIFFERENCES: find_differences(facts, found.members, executions),
    }


def find_clusters(facts: pl.DataFrame) -> Clusters:
    """The clusters of all signatures."""
    return cluster(facts.select("signature_id", "match_key", "day"))


def _daily(facts: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    rows = facts.join(members.select("signature_id", "cluster_id"), on="signature_id")
    return rows.with_columns(edge_times().alias("times"))


def _versions(executions: pl.DataFrame) -> pl.DataFrame:
    known = executions.filter(pl.col("agent_version").is_not_null())
    return known.group_by("agent_id", "agent_version").agg(pl.col("day").min().alias("first_day"))


def _aliases(facts: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """One row per signature ever published, and the cluster it belongs to."""
    counted = facts.group_by("signature_id").agg(
        pl.col("day").min().alias("first_day"), pl.col("occurrence_count").sum()
    )
    named = members.select("signature_id", "cluster_id").join(counted, on="signature_id", how="left")
    return named.select("signature_id", "cluster_id", "first_day", "occurrence_count").sort("signature_id")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
