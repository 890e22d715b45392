"""The published day: executions, rollups and failure facts become visible together, or all of the old ones stay."""

from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg

from assets.catalogue import column_schema
from assets.partitions import daily, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results
from pipelines.failures import OCCURRENCES, SIGNATURES
from pipelines.publication import publish_day
from pipelines.record_types import EXECUTIONS
from pipelines.rollup import (
    AGENT_DAILY,
    AGENT_HOURLY,
    CUBE,
    CUBE_DAILY,
    CUBE_QUARTER_HOURLY,
    MODEL_DAILY,
    USER_DAILY,
)
from pipelines.validate.verdict import Verdict

_CUBE = "Additive measures. Grain: UTC {}, agent, version, environment, type, provider, model, status, category."
_ROLLUPS = {
    CUBE: _CUBE.format("hour"),
    CUBE_DAILY: _CUBE.format("day"),
    CUBE_QUARTER_HOURLY: _CUBE.format("quarter of an hour"),
    AGENT_HOURLY: "Exact metrics. Grain: UTC hour and agent.",
    AGENT_DAILY: "Exact metrics. Grain: UTC day and agent.",
    MODEL_DAILY: "Exact metrics. Grain: UTC day and model.",
    USER_DAILY: "What users did. Grain: UTC day, user and agent.",
}
_CHECKS = {
    "published": (EXECUTIONS.name, "Do the tables hold the day as it was cleaned?"),
    "rollups_conserve": (
        AGENT_DAILY,
        "Do hours and quarters add up to the day, models to the agents, and all to the executions?",
    ),
    "sketch_accuracy": (
        AGENT_DAILY,
        "Are quantiles of the day's durations from sketches within 1 % of the exact ones?",
    ),
}


def published_day_asset(upstream: str) -> dg.AssetsDefinition:
    """Executions, rollups and failure facts of a day, downstream of the clean zone."""

    @dg.multi_asset(
        name="publish_day",
        specs=[
            _spec(
                EXECUTIONS.name,
                "Published. Grain: one terminal attempt of one agent run. A blocked day keeps its old rows.",
                deps=[upstream],
                group="warehouse",
                team="data-engineering",
            ),
            *(
                _spec(name, grain, deps=[EXECUTIONS.name], group="rollups", team="analytics")
                for name, grain in _ROLLUPS.items()
            ),
            _spec(
                SIGNATURES,
                "What failed on a day, where and with what. Grain: UTC day, signature and dimensions.",
                deps=[EXECUTIONS.name],
                group="failures",
                team="on-call",
            ),
            _spec(
                OCCURRENCES,
                "Which execution failed how. Grain: failed execution.",
                deps=[EXECUTIONS.name],
                group="failures",
                team="on-call",
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=asset, description=question) for name, (asset, question) in _CHECKS.items()
        ],
        backfill_policy=whole_range,
        retry_policy=patience,
    )
    @guarded
    def published_day(context: dg.AssetExecutionContext, mill: Mill) -> tuple[dg.MaterializeResult]:
        verdicts: dict[date, list[Verdict]] = {}
        for day in each_day(context, "publish"):
            publication, derived = publish_day(day, mill.lake, mill.warehouse, mill.prices)
            verdicts[day] = [publication.verdict, *derived.verdicts]
            rows = {EXECUTIONS.name: publication.rows, **{name: rows.height for name, rows in derived.tables.items()}}
            for name, count in rows.items():
                told = {"dagster/row_count": count, "outcome": publication.outcome}
                context.add_asset_metadata(told, asset_key=name, partition_key=day.isoformat())
        results = _results(context, verdicts)
        return tuple(  # type: ignore[return-value]  # Dagster takes the annotation for any number of tables
            dg.MaterializeResult(asset_key=name, check_results=results.get(name, []))
            for name in (EXECUTIONS.name, *_ROLLUPS, SIGNATURES, OCCURRENCES)
        )

    return published_day


def _spec(name: str, description: str, *, deps: Sequence[str], group: str, team: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        name,
        deps=deps,
        description=description,
        metadata=column_schema(name),
        partitions_def=daily,
        group_name=group,
        kinds={"polars", "postgres"},
        owners=[f"team:{team}"],
    )


def _results(
    context: dg.AssetExecutionContext, verdicts: Mapping[date, Sequence[Verdict]]
) -> dict[str, list[dg.AssetCheckResult]]:
    """The results of every check by the asset it is about; one that no day came to has nothing to complain of."""
    results: dict[str, list[dg.AssetCheckResult]] = {}
    for name, (asset, _) in _CHECKS.items():
        of_check = {day: [one for one in given if one.check == name] for day, given in verdicts.items()}
        told = check_results(context, asset, {day: given for day, given in of_check.items() if given})
        results.setdefault(asset, []).extend(told or [_not_asked(asset, name)])
    return results


def _not_asked(asset: str, check: str) -> dg.AssetCheckResult:
    told = "Every day of the run keeps its old tables."
    return dg.AssetCheckResult(asset_key=asset, check_name=check, passed=True, description=told)
