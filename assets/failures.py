"""Failures with an identity over all days: what they are, where they stand, and what is different about them."""

import dagster as dg

from assets.catalogue import column_schema
from assets.resources import Mill, guarded, patience
from assets.verdicts import table
from pipelines.failures import CLUSTERS, publish_clusters
from pipelines.regression import read_passes

_TOP = 10
_TABLES = {
    "failure_clusters": "Signatures that are one failure, over all days. Grain: cluster.",
    "failure_cluster_signatures": "The cluster of every signature ever published. Grain: signature.",
    "failure_states": "Where a failure stands, since when and why. Grain: cluster and environment.",
    "failure_transitions": "What became of a failure. Grain: change of a state.",
    "failure_differences": "With what a failure happens more often than without. Grain: cluster and value.",
}


@dg.multi_asset(
    name="derive_failures",
    specs=[
        dg.AssetSpec(
            name,
            deps=["failure_signatures_daily", "execution_rollup_daily", "regression_results"],
            description=description,
            metadata=column_schema(name),
            group_name="failures",
            kinds={"polars", "postgres"},
            owners=["team:on-call"],
        )
        for name, description in _TABLES.items()
    ],
    retry_policy=patience,
)
@guarded
def failure_tables(mill: Mill) -> tuple[dg.MaterializeResult]:
    """Clusters and all that is told about them, published in one transaction."""
    passes = read_passes(mill.warehouse, mill.settings.failures)
    tables = publish_clusters(mill.warehouse, mill.settings.failures, passes)
    clusters = tables[CLUSTERS].sort("occurrence_count", descending=True)
    top = clusters.head(_TOP).select("cluster_id", "category", "occurrence_count", "user_count", "template").rows()
    shown = {CLUSTERS: {"most_frequent": table(["cluster", "category", "occurrences", "users", "template"], top)}}
    return tuple(  # type: ignore[return-value]  # Dagster takes the annotation for any number of tables
        dg.MaterializeResult(asset_key=name, metadata={"dagster/row_count": tables[name].height, **shown.get(name, {})})
        for name in _TABLES
    )
