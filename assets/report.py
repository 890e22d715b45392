"""The reports people read, rewritten from the published tables."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from assets.resources import Mill, guarded, patience
from pipelines.report import write_failure_report, write_regression_report


@dg.asset(
    deps=["failure_clusters", "agent_metrics_daily"],
    retry_policy=patience,
    group_name="reports",
    kinds={"html", "markdown"},
    owners=["team:on-call"],
)
@guarded
def failure_report(mill: Mill) -> dg.MaterializeResult:
    """What fails most, since when, and whom it hits: a page and a Markdown file."""
    return _result(write_failure_report(mill.warehouse, mill.settings.reports))


@dg.asset(
    deps=["regression_candidates", "regression_cases"],
    retry_policy=patience,
    group_name="reports",
    kinds={"html", "markdown"},
    owners=["team:on-call"],
)
@guarded
def regression_report(mill: Mill) -> dg.MaterializeResult:
    """Which failures ask for a regression test, and the evidence: a page and a Markdown file."""
    return _result(write_regression_report(mill.warehouse, mill.settings.reports))


def _result(paths: Sequence[Path]) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={path.name: dg.MetadataValue.path(path.absolute()) for path in paths})
