"""From failures that come back to regression tests: candidates, review, cases, and the results that come back."""

import polars as pl

from pipelines.failures import publish_clusters
from pipelines.regression.candidate_table import CANDIDATES, find_candidate, publish_candidates, tell_candidate
from pipelines.regression.case_table import publish_cases
from pipelines.regression.cases import freeze_cases
from pipelines.regression.passes import read_passes
from pipelines.regression.scores import CASES
from pipelines.settings import FailureSettings, Settings
from pipelines.warehouse.connection import Warehouse

__all__ = [
    "CANDIDATES",
    "find_candidate",
    "freeze_cases",
    "publish_candidates",
    "publish_failures",
    "read_passes",
    "refresh",
    "tell_candidate",
]

_DEFAULTS = FailureSettings()


def publish_failures(warehouse: Warehouse, settings: FailureSettings = _DEFAULTS) -> dict[str, pl.DataFrame]:
    """Derive the tables about clusters and candidates from all that is known, publish them, return them by name."""
    tables = publish_clusters(warehouse, settings, read_passes(warehouse, settings))
    return tables | {CANDIDATES: publish_candidates(warehouse, settings)}


def refresh(warehouse: Warehouse, settings: Settings) -> dict[str, pl.DataFrame]:
    """Derive everything that follows from what people said and tests told, the files of cases included."""
    tables = publish_failures(warehouse, settings.failures)
    return tables | {CASES: publish_cases(warehouse, settings.cases)}
