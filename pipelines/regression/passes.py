"""Which runs of regression tests prove a failure gone, told from what is published and said at the moment."""

import polars as pl

from pipelines.failures import CLUSTERS, derive_clusters, read_history
from pipelines.failures.derived import CLUSTER_SIGNATURES, STATES
from pipelines.failures.lifecycle import PASSES
from pipelines.regression import scores
from pipelines.regression.candidates import Evidence, derive_candidates
from pipelines.regression.case_table import read_table
from pipelines.regression.results import RESULTS
from pipelines.regression.reviews import read_reviews
from pipelines.settings import FailureSettings
from pipelines.warehouse.connection import Warehouse


def read_passes(warehouse: Warehouse, settings: FailureSettings) -> pl.DataFrame:
    """The runs of approved regression tests that prove a failure gone.

    Judged by clusters and candidates as they follow from the facts, whatever is published of them at the moment: so it
    does not matter how often they are derived.
    """
    results = read_table(warehouse, RESULTS, scores.RESULTS)
    if results.is_empty():
        return PASSES.to_frame()
    history, reviews = read_history(warehouse, settings), read_reviews(warehouse)
    tables = derive_clusters(history, settings)
    clusters, states = tables[CLUSTERS], tables[STATES]
    evidence = Evidence(
        facts=history.facts,
        clusters=clusters,
        signatures=tables[CLUSTER_SIGNATURES],
        states=states,
        reviews=reviews,
        covered=frozenset(),
        active_days=history.executions["day"].unique().sort().to_list(),
        as_of=history.as_of,
    )
    told = scores.Evidence(
        candidates=derive_candidates(evidence, settings.candidate_policy),
        reviews=reviews,
        results=results,
        signatures=tables[CLUSTER_SIGNATURES],
        states=states,
    )
    return scores.passing(told)
