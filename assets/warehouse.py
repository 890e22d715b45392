"""Publishing: the clean days that their verdicts allow become partitions of the table of executions."""

import dagster as dg

from assets.partitions import daily, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results
from pipelines.validate.verdict import Verdict
from pipelines.warehouse.executions import Publication, publish_executions


@dg.asset(
    deps=["clean_executions"],
    check_specs=[
        dg.AssetCheckSpec("published", asset="executions", description="Does the table hold the day as it was cleaned?")
    ],
    partitions_def=daily,
    backfill_policy=whole_range,
    retry_policy=patience,
    group_name="warehouse",
    kinds={"postgres"},
    owners=["team:data-engineering"],
)
@guarded
def executions(context: dg.AssetExecutionContext, mill: Mill) -> dg.MaterializeResult:
    """One terminal attempt of one agent run, published. A blocked day keeps its old rows."""
    published = {day: publish_executions(day, mill.lake, mill.warehouse) for day in each_day(context, "publish")}
    for day, publication in published.items():
        context.add_asset_metadata(
            {"dagster/row_count": publication.rows, "outcome": publication.outcome}, partition_key=day.isoformat()
        )
    verdicts = {day: [_verdict(publication)] for day, publication in published.items()}
    return dg.MaterializeResult(check_results=check_results(context, "executions", verdicts))


def _verdict(publication: Publication) -> Verdict:
    blocked = publication.outcome == "blocked"
    return Verdict(
        check="published",
        severity="error",
        passed=not blocked,
        message=f"kept out: {'; '.join(publication.reasons)}" if blocked else publication.outcome,
        figures={"rows": publication.rows},
    )
