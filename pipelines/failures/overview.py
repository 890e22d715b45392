"""What the tables tell about failures, for people: where all of them stand, and everything about one."""

from typing import Any

import polars as pl

from pipelines.failures.decisions import read_decisions
from pipelines.failures.life import ESCALATING, MUTED, NEW, ONGOING, REGRESSED, RESOLVED, SUSPECTED
from pipelines.warehouse.connection import Warehouse

BY_URGENCY = (REGRESSED, ESCALATING, NEW, SUSPECTED, ONGOING, RESOLVED, MUTED)
"""All states; who is on call looks at the first ones first."""

URGENT = BY_URGENCY[:4]
"""The states that ask for somebody."""

_COUNT = "select state, count(*) from agentmill.failure_states where state = any(%s) group by state"
_FIND = """
select distinct cluster_id
from agentmill.failure_cluster_signatures
where signature_id = %s or (length(%s) >= 6 and starts_with(signature_id, %s)
    and not exists (select from agentmill.failure_cluster_signatures where signature_id = %s))
order by 1
"""
_LIST = """
select life.cluster_id, life.environment, life.state, life.since, cluster.category, life.occurrence_count,
    cluster.user_count, cluster.title, life.reason
from agentmill.failure_states as life
join agentmill.failure_clusters as cluster using (cluster_id)
where (%s::text is null or life.state = %s) and (%s::text is null or life.environment = %s)
order by array_position(%s::text[], life.state), life.occurrence_count desc, life.cluster_id, life.environment
"""
_TELL = "select * from agentmill.failure_clusters where cluster_id = %s"
_STATES = """
select environment, state, activity, since, reason, first_seen_at, last_seen_at, occurrence_count, last_day_count,
    expected_day_count, silent_days, resolved_at, resolved_in_version, muted_until
from agentmill.failure_states
where cluster_id = %s
order by array_position(%s::text[], state), environment
"""
_DIFFERENCES = "select * from agentmill.failure_differences where cluster_id = %s order by rank"
_TRANSITIONS = """
select changed_at, environment, from_state, to_state, reason
from agentmill.failure_transitions
where cluster_id = %s
order by changed_at, environment, ordinal
"""


def count_urgent(warehouse: Warehouse) -> dict[str, int]:
    """How many failures are in a state that asks for somebody, by state, the most urgent first."""
    counted = dict(warehouse.read(_COUNT, [list(URGENT)]).iter_rows())
    return {state: counted[state] for state in URGENT if state in counted}


def find_failures(warehouse: Warehouse, text: str) -> list[str]:
    """The failures that have a signature of this id, or else of an id that starts with these six characters or more."""
    return warehouse.read(_FIND, [text] * 4).to_series().to_list()


def list_failures(warehouse: Warehouse, state: str | None = None, environment: str | None = None) -> pl.DataFrame:
    """One row per failure and environment, the most urgent first; of one state or environment, or of all."""
    return warehouse.read(_LIST, [state, state, environment, environment, list(BY_URGENCY)])


def tell_failure(warehouse: Warehouse, cluster_id: str) -> dict[str, Any]:
    """The columns of `failure_clusters`; `states`, `transitions` and `decisions` by time; `differences` by rank."""
    (told,) = warehouse.read(_TELL, [cluster_id]).rows(named=True)
    decisions = read_decisions(warehouse).filter(pl.col("cluster_id").is_in(told["signature_ids"]))
    return {
        **told,
        "states": failure_states(warehouse, cluster_id),
        "transitions": warehouse.read(_TRANSITIONS, [cluster_id]).rows(named=True),
        "differences": warehouse.read(_DIFFERENCES, [cluster_id]).rows(named=True),
        "decisions": decisions.drop("cluster_id").rows(named=True),
    }


def failure_states(warehouse: Warehouse, cluster_id: str) -> list[dict[str, Any]]:
    """Where a failure stands in each environment, the most urgent first."""
    return warehouse.read(_STATES, [cluster_id, list(BY_URGENCY)]).rows(named=True)
