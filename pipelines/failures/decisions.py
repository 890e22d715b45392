"""What people decide about failures: an append-only table, written through one function of the database."""

import re
from datetime import datetime
from typing import Literal

import polars as pl
import psycopg

from pipelines.anonymize.text import Sanitizer
from pipelines.failures.lifecycle import DECISIONS
from pipelines.warehouse.connection import Warehouse

Action = Literal["resolve", "reopen", "mute", "unmute"]

DECISIONS_TABLE = "failure_decisions"

_CALL = """
select agentmill.decide_failure(
    cluster_id => %(cluster_id)s, action => %(action)s, reason => %(reason)s, decided_by => %(decided_by)s,
    environment => %(environment)s, effective_at => %(effective_at)s, muted_until => %(muted_until)s,
    until_escalating => %(until_escalating)s, fixed_in_version => %(fixed_in_version)s
)
"""


class DecisionError(Exception):
    """What was decided cannot be entered; the message says why and what to do."""


def read_decisions(warehouse: Warehouse) -> pl.DataFrame:
    """All decisions as DECISIONS, in the order in which they count; clusters have the ids that they had then."""
    columns = ", ".join(DECISIONS.names())
    told = warehouse.read(
        f"select {columns} from agentmill.{DECISIONS_TABLE} order by effective_at, decision_id"  # noqa: S608 - our own words
    )
    return told.match_to_schema(DECISIONS) if told.height else DECISIONS.to_frame()


def of_clusters(decisions: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """The decisions under the ids of today's clusters, given as signature_id and cluster_id.

    A cluster's id is always the id of one of its signatures, so clusters that have become one keep all decisions. What
    is about a failure that is not known (any more) is left out.
    """
    today = members.select(pl.col("signature_id").alias("cluster_id"), pl.col("cluster_id").alias("today")).unique()
    found = decisions.join(today, on="cluster_id", how="inner", maintain_order="left")
    return found.with_columns(cluster_id=pl.col("today")).drop("today")


def decide(  # noqa: PLR0913 - as many as the function of the database has
    warehouse: Warehouse,
    cluster_id: str,
    action: Action,
    by: str,
    reason: str,
    *,
    environment: str | None = None,
    effective_at: datetime | None = None,
    muted_until: datetime | None = None,
    until_escalating: bool = False,
    fixed_in_version: str | None = None,
    sanitizer: Sanitizer | None = None,
) -> int:
    """Enter a decision and return its id; states follow when they are derived next.

    `cluster_id` is any signature of the failure, or at least six first characters of one. It holds from `effective_at`
    on, now where left out. Reason, name and version are sanitized as texts of logs are, by default with our own rules.
    Raises DecisionError: unknown or ambiguous failure, unknown environment, blank reason, mute that is over.
    """
    said = pl.Series([reason, by, fixed_in_version], dtype=pl.String)
    sanitized_reason, sanitized_by, sanitized_version = (sanitizer or Sanitizer()).sanitize_texts(said)
    told = {
        "cluster_id": cluster_id,
        "action": action,
        "reason": sanitized_reason,
        "decided_by": sanitized_by,
        "environment": environment,
        "effective_at": effective_at,
        "muted_until": muted_until,
        "until_escalating": until_escalating,
        "fixed_in_version": sanitized_version,
    }
    try:
        with warehouse.connect() as connection, connection.transaction():
            row = connection.execute(_CALL, told).fetchone()
    except (psycopg.errors.RaiseException, psycopg.errors.CheckViolation) as error:
        raise DecisionError(re.sub(r"\s+", " ", error.diag.message_primary or str(error))) from None
    assert row is not None  # noqa: S101 - a function returns one row
    return int(row[0])
