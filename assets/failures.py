"""Failures with an identity over all days."""

import dagster as dg

from assets.catalogue import column_schema
from assets.resources import Mill, guarded, patience
from assets.verdicts import table
from pipelines.failures import publish_clusters

_TOP = 10


@dg.asset(
    deps=["failure_signatures_daily"],
    metadata=column_schema("failure_clusters"),
    retry_policy=patience,
    group_name="failures",
    kinds={"polars", "postgres"},
    owners=["team:on-call"],
)
@guarded
def failure_clusters(mill: Mill) -> dg.MaterializeResult:
    """Signatures that are one failure, over all days. Grain: cluster."""
    clusters = publish_clusters(mill.warehouse, mill.settings.failures).sort("occurrence_count", descending=True)
    top = clusters.head(_TOP).select("cluster_id", "category", "occurrence_count", "user_count", "template").rows()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": clusters.height,
            "most_frequent": table(["cluster", "category", "occurrences", "users", "template"], top),
        }
    )
