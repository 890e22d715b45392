"""What the failure report tells: the days, the clusters by how often they strike, and how sound the data are."""

from datetime import date, timedelta
from typing import Any

import polars as pl

from pipelines.failures.overview import URGENT
from pipelines.warehouse.connection import Warehouse

_MOST_CLUSTERS = 30

_DAYS = """
    select day, sum(execution_count)::bigint as executions, sum(failure_count)::bigint as failures,
        sum(success_count)::bigint as successes, sum(cost_usd) as cost_usd, sum(priced_count)::bigint as priced
    from agentmill.agent_metrics_daily group by day order by day
"""
_CLUSTERS = "select * from agentmill.failure_clusters order by occurrence_count desc, cluster_id"
_CLUSTER_DAYS = """
    select cluster_id, day, sum(occurrence_count)::bigint as occurrences
    from agentmill.failure_cluster_daily group by cluster_id, day
"""
_DIFFERENCES = "select * from agentmill.failure_differences order by cluster_id, rank"
_STATES = "select * from agentmill.failure_states order by cluster_id, environment nulls last"
_SPOKEN = {
    "environment": "in environment",
    "agent_id": "agent",
    "agent_version": "version",
    "execution_type": "type of work",
    "provider": "provider",
    "model": "model",
}
_RECEIPTS = """
    select source, sum(received_count)::bigint as received, sum(clean_count)::bigint as clean,
        sum(quarantined_count)::bigint as quarantined, sum(duplicate_count)::bigint as duplicates
    from agentmill.receipts_daily group by source order by source
"""
_REASONS = """
    select source, reason, sum(records::bigint)::bigint as records
    from agentmill.receipts_daily cross join lateral jsonb_each_text(quarantined_by_reason) as given(reason, records)
    group by source, reason order by source, records desc, reason
"""


def failure_context(warehouse: Warehouse) -> dict[str, Any]:
    """Everything the failure report's templates show."""
    days = _every_day(warehouse.read(_DAYS).rows(named=True))
    clusters = warehouse.read(_CLUSTERS)
    failures = int(clusters["occurrence_count"].sum()) if clusters.height else 0
    executions = sum(day["executions"] for day in days)
    return {
        "days": days,
        "totals": {
            "executions": executions,
            "failures": failures,
            "successes": sum(day["successes"] for day in days),
            "success_rate": sum(day["successes"] for day in days) / executions if executions else None,
            "cost_usd": sum(day["cost_usd"] or 0 for day in days) if any(day["priced"] for day in days) else None,
            "priced": sum(day["priced"] for day in days),
            "clusters": clusters.height,
        },
        "urgent": _urgent(warehouse, clusters),
        "clusters": [
            cluster | {"share": cluster["occurrence_count"] / failures}
            for cluster in with_trend(warehouse, clusters.head(_MOST_CLUSTERS))
        ],
        "sources": _sources(warehouse),
    }


def with_trend(warehouse: Warehouse, clusters: pl.DataFrame) -> list[dict[str, Any]]:
    """Each cluster with its occurrences on every day of the period, what is different about it, and where it stands."""
    counts = {(row[0], row[1]): row[2] for row in warehouse.read(_CLUSTER_DAYS).iter_rows()}
    differences: dict[str, list[str]] = {}
    for one in warehouse.read(_DIFFERENCES).iter_rows(named=True):
        differences.setdefault(one["cluster_id"], []).append(describe_difference(one))
    states: dict[str, list[dict[str, Any]]] = {}
    for one in warehouse.read(_STATES).iter_rows(named=True):
        states.setdefault(one["cluster_id"], []).append(one)
    period = _period(warehouse)
    return [
        cluster
        | {
            "daily": [(day, counts.get((cluster["cluster_id"], day), 0)) for day in period],
            "differences": differences.get(cluster["cluster_id"], []),
            "states": states.get(cluster["cluster_id"], []),
        }
        for cluster in clusters.iter_rows(named=True)
    ]


def _urgent(warehouse: Warehouse, clusters: pl.DataFrame) -> list[dict[str, Any]]:
    """Where a failure needs somebody today: state, since when, how much, and what it says."""
    told = {row["cluster_id"]: row for row in clusters.iter_rows(named=True)}
    rows = [
        state | {name: told[state["cluster_id"]][name] for name in ("title", "severity", "user_count")}
        for state in warehouse.read(_STATES).iter_rows(named=True)
        if state["state"] in URGENT and state["cluster_id"] in told
    ]
    return sorted(rows, key=lambda row: (URGENT.index(row["state"]), -row["occurrence_count"], row["cluster_id"]))


def describe_difference(one: dict[str, Any]) -> str:
    """A row of `failure_differences` as a sentence."""
    with_it = f"{_SPOKEN[one['dimension']]} {one['value']}" + (f" of {one['agent_id']}" if one["agent_id"] else "")
    first = f"{with_it}: {one['failure_rate']:.2%} of {one['execution_count']:,} executions failed so, "
    if not one["other_rate"]:
        return first + "none of the others"
    return (
        f"{first}{one['other_rate']:.2%} of the others; {one['lift']:.1f} times as often "
        f"({one['lift_low']:.1f} to {one['lift_high']:.1f})"
    )


def _every_day(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The days from the first to the last, those without executions too: the axis of a chart has no gaps."""
    told = {day["day"]: day for day in days}
    nothing = {"executions": 0, "failures": 0, "successes": 0, "cost_usd": None, "priced": 0}
    return [told.get(day, {"day": day, **nothing}) for day in _days_between(min(told), max(told))] if told else []


def _days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _period(warehouse: Warehouse) -> list[date]:
    first, last = warehouse.read("select min(day), max(day) from agentmill.agent_metrics_daily").row(0)
    return [] if first is None else _days_between(first, last)


def _sources(warehouse: Warehouse) -> list[dict[str, Any]]:
    reasons = warehouse.read(_REASONS).rows()
    return [
        source | {"reasons": [(reason, records) for name, reason, records in reasons if name == source["source"]]}
        for source in warehouse.read(_RECEIPTS).iter_rows(named=True)
    ]
