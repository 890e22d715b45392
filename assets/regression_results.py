"""Regression tests after their approval: results that come back, and the cases that are derived with them."""

import dagster as dg

from assets.catalogue import column_schema
from assets.resources import Mill, guarded, patience
from assets.verdicts import table
from pipelines.regression.case_table import publish_cases
from pipelines.regression.results import RESULTS, describe_folder, import_results
from pipelines.regression.scores import CASES


@dg.asset(
    metadata=column_schema(RESULTS),
    retry_policy=patience,
    group_name="regression",
    kinds={"postgres"},
    owners=["team:on-call"],
)
@guarded
def regression_results(mill: Mill) -> dg.MaterializeResult:
    """Results of regression tests, as files bring them back. Grain: one part of a case, run once."""
    folder = mill.settings.results
    files = import_results(
        mill.warehouse, [folder] if folder.is_dir() else [], sanitizer=mill.settings.read_sanitizer()
    )
    problems = [(one.file_name, one.problem) for one in files if one.is_new and one.problem]
    return dg.MaterializeResult(
        metadata={
            "new_files": sum(one.is_new for one in files),
            "new_results": sum(one.new_count for one in files),
            "problems": table(["file", "problem"], problems),
        }
    )


@dg.asset(
    deps=["regression_candidates", "regression_results"],
    metadata=column_schema(CASES),
    retry_policy=patience,
    group_name="regression",
    kinds={"polars", "postgres", "json"},
    owners=["team:on-call"],
)
@guarded
def regression_cases(mill: Mill) -> dg.MaterializeResult:
    """Approved candidates as cases, with how far each test can be trusted; also as JSON files. Grain: case."""
    cases = publish_cases(mill.warehouse, mill.settings.cases)
    states = dict(cases["state"].value_counts().iter_rows())
    folder = dg.MetadataValue.path(mill.settings.cases.absolute())
    return dg.MaterializeResult(metadata={"dagster/row_count": cases.height, "folder": folder, **states})


@dg.sensor(job_name="derived_tables", minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def new_results(mill: Mill) -> dg.SensorResult | dg.SkipReason:
    """Files of results that have come into their folder, or have changed there."""
    seen = describe_folder(mill.settings.results)
    if seen is None:
        return dg.SkipReason(f"There is no file of results in {mill.settings.results}.")
    return dg.SensorResult([dg.RunRequest(run_key=f"results-{seen}")])
