"""Publishing: the clean days that their verdicts allow become partitions of the tables of records."""

import dagster as dg

from assets.partitions import daily, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results
from pipelines.record_types import EXECUTION_LOGS, EXECUTIONS, USER_AGENT_PREFERENCES, RecordType
from pipelines.validate.verdict import Verdict
from pipelines.warehouse.executions import Publication, publish_records

_GRAINS = {
    EXECUTIONS.name: "One terminal attempt of one agent run, published.",
    EXECUTION_LOGS.name: "One line that an execution wrote, published.",
    USER_AGENT_PREFERENCES.name: "What one user said of one agent, as last said on the day, published.",
}


def published_asset(kind: RecordType) -> dg.AssetsDefinition:
    """The table of the records of one type."""

    @dg.asset(
        name=kind.name,
        description=f"{_GRAINS[kind.name]} A blocked day keeps its old rows.",
        deps=[kind.clean_name],
        check_specs=[
            dg.AssetCheckSpec(
                "published", asset=kind.name, description="Does the table hold the day as it was cleaned?"
            )
        ],
        partitions_def=daily,
        backfill_policy=whole_range,
        retry_policy=patience,
        group_name="warehouse",
        kinds={"postgres"},
        owners=["team:data-engineering"],
    )
    @guarded
    def table(context: dg.AssetExecutionContext, mill: Mill) -> dg.MaterializeResult:
        published = {day: publish_records(kind, day, mill.lake, mill.warehouse) for day in each_day(context, "publish")}
        for day, publication in published.items():
            context.add_asset_metadata(
                {"dagster/row_count": publication.rows, "outcome": publication.outcome}, partition_key=day.isoformat()
            )
        verdicts = {day: [_verdict(publication)] for day, publication in published.items()}
        return dg.MaterializeResult(check_results=check_results(context, kind.name, verdicts))

    return table


def _verdict(publication: Publication) -> Verdict:
    blocked = publication.outcome == "blocked"
    return Verdict(
        check="published",
        severity="error",
        passed=not blocked,
        message=f"kept out: {'; '.join(publication.reasons)}" if blocked else publication.outcome,
        figures={"rows": publication.rows},
    )
