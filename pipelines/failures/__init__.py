"""Failures with an identity: daily facts by signature; of all days clusters, their states and what is different."""

from pipelines.failures.derived import (
    CLUSTERS,
    EXECUTION_COUNTS,
    History,
    derive_clusters,
    find_clusters,
    publish_clusters,
    read_history,
)
from pipelines.failures.facts import (
    COLUMNS,
    FACTS,
    OCCURRENCES,
    SIGNATURES,
    categorize_failures,
    derive_facts,
    edge_times,
    read_facts,
    signature_facts,
)

__all__ = [
    "CLUSTERS",
    "COLUMNS",
    "EXECUTION_COUNTS",
    "FACTS",
    "OCCURRENCES",
    "SIGNATURES",
    "History",
    "categorize_failures",
    "derive_clusters",
    "derive_facts",
    "edge_times",
    "find_clusters",
    "publish_clusters",
    "read_facts",
    "read_history",
    "signature_facts",
]
