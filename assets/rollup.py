"""The rollups of each published day: the cube and the exact metrics, published together."""

import dagster as dg

from assets.catalogue import column_schema
from assets.partitions import daily, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results
from pipelines.failures import categorize_failures
from pipelines.rollup import AGENT_DAILY, AGENT_HOURLY, COLUMNS, CUBE, MODEL_DAILY, USER_DAILY, roll_up
from pipelines.warehouse.executions import published_day

_GRAINS = {
    CUBE: "Additive measures. Grain: UTC hour, agent, version, environment, type, provider, model, status, category.",
    AGENT_HOURLY: "Exact metrics. Grain: UTC hour and agent.",
    AGENT_DAILY: "Exact metrics. Grain: UTC day and agent.",
    MODEL_DAILY: "Exact metrics. Grain: UTC day and model.",
    USER_DAILY: "What users did. Grain: UTC day, user and agent.",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            deps=["executions"],
            description=grain,
            metadata=column_schema(name),
            partitions_def=daily,
            group_name="rollups",
            kinds={"polars", "postgres"},
            owners=["team:analytics"],
        )
        for name, grain in _GRAINS.items()
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "rollups_conserve",
            asset=AGENT_DAILY,
            description="Do hours add up to the day, models to the agents, and all to the executions?",
        )
    ],
    backfill_policy=whole_range,
    retry_policy=patience,
)
@guarded
def rollups(context: dg.AssetExecutionContext, mill: Mill) -> tuple[dg.MaterializeResult]:
    """All rollup tables. A day that is not published as cleaned keeps its old rollups, like its old executions."""
    verdicts = {}
    for day in each_day(context, "roll up"):
        published = published_day(day, mill.lake, mill.warehouse, COLUMNS)
        if published is None:
            continue
        rows, verdict = roll_up(published, categorize_failures, mill.warehouse)
        verdicts[day] = [verdict]
        for name, count in rows.items():
            context.add_asset_metadata({"dagster/row_count": count}, asset_key=name, partition_key=day.isoformat())
    checked = check_results(context, AGENT_DAILY, verdicts) or [_nothing_to_roll_up()]
    return tuple(  # type: ignore[return-value]  # Dagster takes the annotation for any number of tables
        dg.MaterializeResult(asset_key=name, check_results=checked if name == AGENT_DAILY else []) for name in _GRAINS
    )


def _nothing_to_roll_up() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=AGENT_DAILY,
        check_name="rollups_conserve",
        passed=True,
        description="No day of the run is published as it was cleaned, so each keeps its rollups.",
    )
