"""What the regression report tells: each failure that struck often enough to ask for a test, and its evidence."""

from typing import Any

from pipelines.report.failures import with_trend
from pipelines.warehouse.connection import Warehouse

_MOST_CANDIDATES = 50
_CANDIDATES = "select * from agentmill.regression_candidates order by priority desc, candidate_id"
_CASES = """
    select test.*, cluster.title
    from agentmill.regression_cases as test left join agentmill.failure_clusters as cluster using (cluster_id)
    order by test.state, test.approved_at, test.case_id
"""
_CLUSTERS = """
    select * from agentmill.failure_clusters
    where cluster_id in (select cluster_id from agentmill.regression_candidates)
"""


def regression_context(warehouse: Warehouse) -> dict[str, Any]:
    """Everything the regression report's templates show."""
    clusters = {cluster["cluster_id"]: cluster for cluster in with_trend(warehouse, warehouse.read(_CLUSTERS))}
    candidates = warehouse.read(_CANDIDATES).rows(named=True)
    cases = warehouse.read(_CASES).rows(named=True)
    known = [
        candidate for candidate in candidates if candidate["cluster_id"] in clusters
    ]  # written one after the other
    return {
        "total": len(candidates),
        "cases": cases,
        "candidates": [one | {"cluster": clusters[one["cluster_id"]]} for one in known[:_MOST_CANDIDATES]],
    }
