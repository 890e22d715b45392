"""Failures with an identity: daily facts by signature; clusters and what is different about them, of all days."""

import polars as pl

from pipelines.failures.cluster import Clusters, cluster
from pipelines.failures.differences import find_differences
from pipelines.failures.facts import (
    COLUMNS,
    DIMENSIONS,
    FACTS,
    OCCURRENCES,
    SIGNATURES,
    categorize_failures,
    derive_facts,
    edge_times,
    read_facts,
    signature_facts,
)
from pipelines.failures.summary import summarise
from pipelines.rollup import CUBE_DAILY
from pipelines.settings import FailureSettings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

__all__ = [
    "CLUSTERS",
    "COLUMNS",
    "FACTS",
    "OCCURRENCES",
    "SIGNATURES",
    "categorize_failures",
    "derive_clusters",
    "derive_facts",
    "edge_times",
    "publish_clusters",
    "read_facts",
    "signature_facts",
]

CLUSTERS = "failure_clusters"
CLUSTER_SIGNATURES = "failure_cluster_signatures"
DIFFERENCES = "failure_differences"

_CUBED = [name for name in DIMENSIONS if name != "release"]
EXECUTION_COUNTS = pl.Schema({"day": pl.Date(), **dict.fromkeys(_CUBED, pl.String()), "execution_count": pl.Int64()})
"""Grain: UTC day and cell of the dimensions that the cubes have."""


_DEFAULTS = FailureSettings()


def publish_clusters(warehouse: Warehouse, settings: FailureSettings = _DEFAULTS) -> dict[str, pl.DataFrame]:  # noqa: ARG001
    """Derive the clusters and what belongs to them from the facts of all days, publish the tables, and return them."""
    contents = table_contents(warehouse, SIGNATURES)
    tables = derive_clusters(read_facts(warehouse), read_execution_counts(warehouse))
    content = content_digest(CLUSTERS, contents)
    loads = [(Load(table=name, day=ALL_DAYS, content=content, rows=rows.height), rows) for name, rows in tables.items()]
    replace_rows(warehouse, loads, basis=while_made_of(SIGNATURES, contents))
    return tables


def read_execution_counts(warehouse: Warehouse) -> pl.DataFrame:
    """All executions, counted by day and dimension."""
    cells = ", ".join(["day", *_CUBED])
    counts = warehouse.read(
        f"select {cells}, sum(execution_count)::bigint as execution_count from agentmill.{CUBE_DAILY} group by {cells}"  # noqa: S608 - our own words
    )
    return counts.match_to_schema(EXECUTION_COUNTS) if counts.height else EXECUTION_COUNTS.to_frame()


def derive_clusters(facts: pl.DataFrame, executions: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables about clusters, by name, over the facts and execution counts of all days, in whatever order.

    A cluster's id is the signature of its earliest member (day, then id), so every id ever published is one of its
    `signature_ids`.
    """
    found = find_clusters(facts)
    activity = executions.group_by("day").agg(pl.col("execution_count").sum())
    return {
        CLUSTERS: summarise(facts, found.members, activity),
        CLUSTER_SIGNATURES: _aliases(facts, found.members),
        DIFFERENCES: find_differences(facts, found.members, executions),
    }


def find_clusters(facts: pl.DataFrame) -> Clusters:
    """The clusters of all signatures."""
    return cluster(facts.select("signature_id", "match_key", "day"))


def _aliases(facts: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """One row per signature ever published, and the cluster it belongs to."""
    counted = facts.group_by("signature_id").agg(
        pl.col("day").min().alias("first_day"), pl.col("occurrence_count").sum()
    )
    named = members.select("signature_id", "cluster_id").join(counted, on="signature_id", how="left")
    return named.select("signature_id", "cluster_id", "first_day", "occurrence_count").sort("signature_id")
