"""Failures with an identity: each day's facts, and the clusters over all days."""

import dagster as dg

from assets.catalogue import column_schema
from assets.partitions import daily, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import table
from pipelines.failures import COLUMNS, publish_clusters, publish_signatures
from pipelines.warehouse.executions import published_day

_TOP = 10


@dg.asset(
    deps=["executions"],
    metadata=column_schema("failure_signatures_daily"),
    partitions_def=daily,
    backfill_policy=whole_range,
    retry_policy=patience,
    group_name="failures",
    kinds={"polars", "postgres"},
    owners=["team:on-call"],
)
@guarded
def failure_signatures_daily(context: dg.AssetExecutionContext, mill: Mill) -> None:
    """What failed on a day, by the identity of its message. Grain: UTC day and signature."""
    for day in each_day(context, "fingerprint"):
        published = published_day(day, mill.lake, mill.warehouse, COLUMNS)
        if published is not None:
            facts = publish_signatures(published, mill.warehouse)
            context.add_asset_metadata(
                {"dagster/row_count": facts.height, "failures": int(facts["occurrence_count"].sum())},
                partition_key=day.isoformat(),
            )


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
    clusters = publish_clusters(mill.warehouse).sort("occurrence_count", descending=True)
    top = clusters.head(_TOP).select("cluster_id", "category", "occurrence_count", "user_count", "template").rows()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": clusters.height,
            "most_frequent": table(["cluster", "category", "occurrences", "users", "template"], top),
        }
    )
