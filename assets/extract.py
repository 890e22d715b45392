"""Raw records, one asset per configured source."""

import time
from datetime import UTC, datetime

import dagster as dg

from assets.partitions import daily, days, tell, whole_range
from assets.resources import Mill, guarded, patience
from assets.verdicts import table
from pipelines.extract import RawReceipt, extract
from pipelines.privacy.buried import reconcile
from pipelines.sources.kinds import AnySource

ACCEPT_MISSING_TAG = "agentmill/accept_missing"
"""A run with this tag, set to `true`, lets a day lose records whose files are gone."""


def raw_asset(source: AnySource) -> dg.AssetsDefinition:
    """The asset of one source: its records as received, by the UTC day they belong to."""

    @dg.asset(
        name=f"raw_{source.name}",
        description=f"Records of `{source.name}` as received, in the restricted zone. Grain: one record.",
        partitions_def=daily,
        backfill_policy=whole_range,
        retry_policy=patience,
        group_name="extract",
        kinds={"polars", "parquet"},
        owners=["team:data-engineering"],
        tags={"privacy": "restricted"},
    )
    @guarded
    def raw(context: dg.AssetExecutionContext, mill: Mill) -> None:
        chosen, stage = days(context), f"extract {source.name}"
        tell(stage, 0, len(chosen), "reading")
        started = time.monotonic()
        accept_missing = context.run.tags.get(ACCEPT_MISSING_TAG) == "true"
        configured = mill.settings.sources[source.name]
        reconcile(mill.lake, mill.warehouse)
        keys = [mill.key, *mill.former_keys]
        receipts = extract(configured, chosen, mill.lake, datetime.now(UTC), accept_missing=accept_missing, keys=keys)
        tell(stage, len(chosen), len(chosen))
        context.add_asset_metadata({"run_seconds": round(time.monotonic() - started, 3)})
        for day, receipt in receipts.items():
            context.add_asset_metadata(_figures(receipt), partition_key=day.isoformat())

    return raw


def _figures(receipt: RawReceipt) -> dict[str, dg.MetadataValue]:
    inputs = [
        (n, read.size if read.size is not None else "", read.records, (read.sha256 or "")[:12])
        for n, read in enumerate(receipt.inputs, 1)
    ]
    return {
        "dagster/row_count": dg.MetadataValue.int(receipt.rows),
        "inputs": table(["input", "bytes", "records of the day", "sha256"], inputs),
        "still_growing": dg.MetadataValue.int(len(receipt.growing)),
        "erased": dg.MetadataValue.int(receipt.erased),
        "unplaced": dg.MetadataValue.int(receipt.unplaced),
        "unknown_attributes": table(["attribute", "times"], receipt.unknown_attributes.items()),
    }
