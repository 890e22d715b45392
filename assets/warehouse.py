"""Publishing: the clean days that their verdicts allow become partitions of the tables of records."""

import dagster as dg

from assets.catalogue import column_schema
from assets.partitions import daily, days, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results
from pipelines.record_types import EXECUTION_LOGS, EXECUTIONS, USER_AGENT_PREFERENCES, RecordType
from pipelines.validate.verdict import Verdict
from pipelines.warehouse.executions import Publication, held_days, publish_records

_GRAINS = {
    EXECUTIONS.name: "Published. Grain: one terminal attempt of one agent run.",
    EXECUTION_LOGS.name: "Published. Grain: one line that an execution wrote.",
    USER_AGENT_PREFERENCES.name: "Published. Grain: user and agent, as last said on the day.",
}


def published_asset(kind: RecordType, upstream: str) -> dg.AssetsDefinition:
    """The table of the records of one type, downstream of the clean zone."""
    stage = "publish" if kind is EXECUTIONS else f"publish {kind.name}"

    @dg.asset(
        name=kind.name,
        description=f"{_GRAINS[kind.name]} A blocked day keeps its old rows.",
        deps=[upstream],
        metadata=column_schema(kind.name),
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
        held = held_days(kind, mill.settings.sources.values(), days(context), mill.warehouse)
        published = {
            day: publish_records(kind, day, mill.lake, mill.warehouse)
            for day in each_day(context, stage)
            if day in held
        }
        for day, publication in published.items():
            context.add_asset_metadata(
                {"dagster/row_count": publication.rows, "outcome": publication.outcome}, partition_key=day.isoformat()
            )
        verdicts = {day: [_verdict(publication)] for day, publication in published.items()}
        return dg.MaterializeResult(check_results=check_results(context, kind.name, verdicts) or [_nothing(kind)])

    return table


def _nothing(kind: RecordType) -> dg.AssetCheckResult:
    told = f"No source has {kind.name}, and no day of the run ever had some."
    return dg.AssetCheckResult(asset_key=kind.name, check_name="published", passed=True, description=told)


def _verdict(publication: Publication) -> Verdict:
    blocked = publication.outcome == "blocked"
    return Verdict(
        check="published",
        severity="error",
        passed=not blocked,
        message=f"kept out: {'; '.join(publication.reasons)}" if blocked else publication.outcome,
        figures={"rows": publication.rows},
    )
