"""Clean executions and their quarantine, from one computation, with the verdict on each day."""

from collections.abc import Collection
from datetime import date

import dagster as dg

from assets.partitions import daily, each_day, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import check_results, table
from pipelines.clean import CLEAN_EXECUTIONS, QUARANTINED, CleanReceipt, clean, types_of
from pipelines.execution import QUARANTINE_REASONS
from pipelines.privacy.buried import reconcile
from pipelines.record_types import EXECUTION_LOGS, EXECUTIONS, USER_AGENT_PREFERENCES
from pipelines.sources.source import Source
from pipelines.validate import validate
from pipelines.validate.verdict import CHECKS, GATE, Check, judge_gate

_GRAINS = {
    EXECUTIONS.clean_name: "Typed, deduplicated, anonymized. Grain: one terminal attempt of one agent run.",
    EXECUTION_LOGS.clean_name: "Lines that executions wrote, sanitized. Grain: one line.",
    USER_AGENT_PREFERENCES.clean_name: "What users said of agents, anonymized. Grain: user and agent, as last said.",
}
_REFUSED = "Records of which no row can be made, with place, reason and structure. Grain: one record."


def clean_assets(sources: Collection[Source]) -> dg.AssetsDefinition:
    """The clean zone, downstream of the raw assets of these sources."""
    raw = [f"raw_{source.name}" for source in sources]
    grains = {kind.clean_name: _GRAINS[kind.clean_name] for kind in types_of(sources)} | {QUARANTINED: _REFUSED}

    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                name,
                deps=raw,
                description=description,
                partitions_def=daily,
                group_name="executions",
                kinds={"polars", "parquet"},
                owners=["team:data-engineering"],
            )
            for name, description in grains.items()
        ],
        check_specs=[
            *(dg.AssetCheckSpec(check.name, asset=CLEAN_EXECUTIONS, description=_ask(check)) for check in CHECKS),
            dg.AssetCheckSpec(GATE.name, asset=CLEAN_EXECUTIONS, description=GATE.question, blocking=True),
        ],
        backfill_policy=whole_range,
        retry_policy=patience,
    )
    @guarded
    def clean_zone(context: dg.AssetExecutionContext, mill: Mill) -> tuple[dg.MaterializeResult]:
        sources, verdicts = list(mill.settings.sources.values()), {}
        reconcile(mill.lake, mill.warehouse)
        for day in each_day(context, "clean"):
            receipt = clean(
                day,
                sources,
                mill.lake,
                mill.key,
                mill.prices,
                sanitizer=mill.sanitizer,
                former_keys=mill.former_keys,
            )
            verdicts[day] = validate(day, sources, mill.lake, mill.prices)
            _show(context, day, receipt)
        checks = check_results(context, CLEAN_EXECUTIONS, {day: judged.verdicts for day, judged in verdicts.items()})
        checks += check_results(context, CLEAN_EXECUTIONS, {max(verdicts): [judge_gate(verdicts.values())]})
        return tuple(  # type: ignore[return-value]  # Dagster takes the annotation for any number of tables
            dg.MaterializeResult(asset_key=name, check_results=checks if name == CLEAN_EXECUTIONS else [])
            for name in grains
        )

    return clean_zone


def _ask(check: Check) -> str:
    """What a check asks, and what follows from a no."""
    return check.question + (" A day that fails keeps its old data." if check.severity == "error" else "")


def _show(context: dg.AssetExecutionContext, day: date, receipt: CleanReceipt) -> None:
    """The figures of a day, by source and by reason."""
    refused = [
        (count.source, reason, records, QUARANTINE_REASONS[reason])
        for count in receipt.sources
        for reason, records in count.quarantined.items()
    ]
    accounts = [
        (count.source, count.received, count.clean, sum(count.quarantined.values()), count.duplicates, count.erased)
        for count in receipt.sources
    ]
    for kind in receipt.types():
        rows = sum(part.rows for part in receipt.parts_of(kind))
        context.add_asset_metadata({"dagster/row_count": rows}, asset_key=kind.clean_name, partition_key=f"{day}")
    context.add_asset_metadata(
        {
            "quarantined": sum(records for _, _, records, _ in refused),
            "duplicates": sum(count.duplicates for count in receipt.sources),
            "accounts": table(["source", "received", "clean", "quarantined", "duplicates", "erased"], accounts),
        },
        asset_key=CLEAN_EXECUTIONS,
        partition_key=day.isoformat(),
    )
    context.add_asset_metadata(
        {
            "dagster/row_count": sum(records for _, _, records, _ in refused),
            "reasons": table(["source", "reason", "records", "what it means"], refused),
        },
        asset_key=QUARANTINED,
        partition_key=day.isoformat(),
    )
