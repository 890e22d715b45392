"""Dropping what was kept long enough. It deletes data, so its schedule runs only once somebody has switched it on."""

from datetime import UTC, datetime
from functools import partial

import dagster as dg

from assets.resources import Mill, guarded, patience
from assets.verdicts import table
from pipelines.privacy.retention import retain
from pipelines.regression import refresh


@dg.asset(
    retry_policy=patience,
    group_name="retention",
    kinds={"postgres", "parquet"},
    owners=["team:data-engineering"],
)
@guarded
def retention(mill: Mill) -> dg.MaterializeResult:
    """What was kept for as long as `retention` says, dropped by day and by month. Grain: place."""
    derive = partial(refresh, settings=mill.settings)
    drops = retain(mill.settings.retention, mill.lake, mill.warehouse, datetime.now(UTC).date(), derive)
    rows = [(one.place, one.first_day, one.last_day, one.days, one.rows, one.size_bytes or "") for one in drops]
    columns = ["place", "from", "to", "days", "rows", "bytes"]
    return dg.MaterializeResult(metadata={"dagster/row_count": len(drops), "dropped": table(columns, rows)})
