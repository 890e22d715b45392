"""Candidates for regression tests, derived from the failures of all days."""

import dagster as dg

from assets.catalogue import column_schema
from assets.resources import Mill, guarded, patience
from pipelines.regression import publish_candidates


@dg.asset(
    deps=["failure_clusters"],
    metadata=column_schema("regression_candidates"),
    retry_policy=patience,
    group_name="regression",
    kinds={"polars", "postgres"},
    owners=["team:on-call"],
)
@guarded
def regression_candidates(mill: Mill) -> dg.MaterializeResult:
    """Failures that struck three times within seven days, proposed as tests. Grain: candidate."""
    return dg.MaterializeResult(
        metadata={"dagster/row_count": publish_candidates(mill.warehouse, mill.settings.failures).height}
    )
