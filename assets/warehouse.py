"""What is published beside executions: log lines and preferences, each type in a table of its own."""

import dagster as dg

from assets.catalogue import column_schema
from assets.partitions import daily, days, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results
from pipelines.record_types import EXECUTION_LOGS, USER_AGENT_PREFERENCES, RecordType
from pipelines.warehouse.executions import held_days, publish_records

_GRAINS = {
    EXECUTION_LOGS.name: "Published. Grain: one line that an execution wrote.",
    USER_AGENT_PREFERENCES.name: "Published. Grain: user and agent, as last said on the day.",
}


def published_asset(kind: RecordType, upstream: str) -> dg.AssetsDefinition:
    """The table of the records of one type, downstream of the clean zone."""

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
            for day in each_day(context, f"publish {kind.name}")
            if day in held
        }
        for day, publication in published.items():
            context.add_asset_metadata(
                {"dagster/row_count": publication.rows, "outcome": publication.outcome}, partition_key=day.isoformat()
            )
        verdicts = {day: [publication.verdict] for day, publication in published.items()}
        return dg.MaterializeResult(check_results=check_results(context, kind.name, verdicts) or [_nothing(kind)])

    return table


def _nothing(kind: RecordType) -> dg.AssetCheckResult:
    told = f"No source has {kind.name}, and no day of the run ever had some."
    return dg.AssetCheckResult(asset_key=kind.name, check_name="published", passed=True, description=told)
