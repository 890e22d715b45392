"""Who read what, from the server's log."""

import dagster as dg

from assets.catalogue import column_schema
from assets.resources import Mill, guarded, patience
from pipelines.warehouse.audit import AUDIT, load_audit


@dg.asset(
    name=AUDIT,
    metadata=column_schema(AUDIT),
    retry_policy=patience,
    group_name="health",
    kinds={"postgres"},
    owners=["team:data-engineering"],
)
@guarded
def access_audit(mill: Mill) -> dg.MaterializeResult:
    """Statements of people's logins, from the log that `access_log` names, literals masked. Grain: statement."""
    if mill.settings.access_log is None:
        return dg.MaterializeResult(metadata={"outcome": "`access_log` is not set, so there is nothing to read"})
    audited = load_audit(mill.warehouse, mill.settings.access_log)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": audited.new,
            "statements_in_log": audited.statements,
            "unreadable_entries": audited.unreadable,
        }
    )
