"""Approved candidates as regression cases: a pure function of the published tables.

What an execution was given is not kept, so a case has the structure of its inputs, unless its reviewer supplied one.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pipelines.execution import FAILURES
from pipelines.regression.case_file import (
    Agent,
    Case,
    CaseInput,
    Contract,
    Control,
    MustNot,
    Retry,
    Structure,
)
from pipelines.warehouse.connection import Warehouse

APPROVED = "approved"
MOST_CONTROLS = 3

_CONTROLS_SINCE = timedelta(days=30)
_MOST_LOOKED_AT = 2_000
_ATTEMPTS = 3
_SHORTEST_TIMEOUT_MS = 60_000

Row = dict[str, Any]

_CANDIDATES = """
select
    candidate.candidate_id,
    candidate.cluster_id,
    candidate.kind,
    candidate.is_blocking,
    candidate.state_since,
    candidate.state_reason,
    candidate.reviewed_by as decided_by,
    candidate.evidence_execution_ids,
    cluster.title,
    cluster.template,
    cluster.category,
    cluster.severity,
    cluster.is_retryable,
    cluster.sample_message,
    array(
        select member.signature_id
        from agentmill.failure_cluster_signatures as member
        where member.cluster_id = candidate.cluster_id
            or member.cluster_id in (
                select merged.cluster_id
                from agentmill.regression_candidates as merged
                where merged.merged_into = candidate.candidate_id
            )
        order by member.signature_id collate "C"
    ) as signature_ids,
    approval.reviewed_by,
    approval.reviewed_at,
    approval.reason,
    approval.fixture
from agentmill.regression_candidates as candidate
join agentmill.failure_clusters as cluster using (cluster_id)
left join lateral (
    -- A review of before a merger of clusters names the candidate by an id that is now one of its signatures.
    select review.*
    from agentmill.candidate_reviews as review
    where review.action = 'approve'
        and (
            review.candidate_id = candidate.candidate_id
            or substr(review.candidate_id, 4) in (
                select member.signature_id
                from agentmill.failure_cluster_signatures as member
                where member.cluster_id = candidate.cluster_id
            )
        )
    order by review.review_id desc
    limit 1
) as approval on true
where candidate.state = %s
order by candidate.candidate_id collate "C"
"""

_INPUTS = "source, execution_id, agent_id, agent_name, event_time, duration_ms, input_type, input_bytes, input_shape"

_EVIDENCE = f"""
select {_INPUTS}
from agentmill.executions
where execution_id collate "C" = any(%s) and status = any(%s)
order by event_time, source collate "C", execution_id collate "C"
"""  # noqa: S608 - our own words

_SUCCESSES = f"""
select {_INPUTS}
from agentmill.executions
where agent_id = %s and status = 'success' and input_shape is not null and event_time >= %s
order by event_time desc, source collate "C", execution_id collate "C"
limit {_MOST_LOOKED_AT}
"""  # noqa: S608 - our own words


def build_cases(warehouse: Warehouse) -> list[Case]:
    """The cases of all approved candidates, by id. The same tables make the same cases."""
    with warehouse.connect() as connection, connection.transaction():
        return [_build(connection, candidate) for candidate in _rows(connection, _CANDIDATES, [APPROVED])]


def _build(connection: psycopg.Connection, candidate: Row) -> Case:
    ids = candidate["evidence_execution_ids"]
    evidence = _rows(connection, _EVIDENCE, [ids, list(FAILURES)]) if ids else []
    agent = _agent_of(evidence)
    evidence = [one for one in evidence if one["agent_id"] == agent.id]
    controls = _choose_controls(connection, agent, evidence)
    return Case(
        case_id=candidate["candidate_id"],
        candidate_id=candidate["candidate_id"],
        cluster_id=candidate["cluster_id"],
        title=candidate["title"] or candidate["template"],
        kind=candidate["kind"],
        agent=agent,
        category=candidate["category"],
        severity=candidate["severity"],
        template=candidate["template"],
        what_failed=candidate["sample_message"],
        input=CaseInput(fixture=candidate["fixture"], structures=() if candidate["fixture"] else _structures(evidence)),
        contract=Contract(
            must_not=MustNot(signature_ids=candidate["signature_ids"]),
            retry=_retry(candidate, controls) if candidate["kind"] == "resilience" else None,
        ),
        controls=[Control(execution_id=one["execution_id"], input=_input_of(one)) for one in controls],
        is_blocking=candidate["is_blocking"],
        reviewed_by=candidate["reviewed_by"] or candidate["decided_by"],
        reviewed_at=candidate["reviewed_at"] or candidate["state_since"],
        reason=candidate["reason"] or candidate["state_reason"],
        evidence_execution_ids=ids,
    )


def _agent_of(evidence: Sequence[Row]) -> Agent:
    """The agent that failed most often among the evidence; the first by id of several."""
    counts = Counter((one["agent_id"], one["agent_name"]) for one in evidence)
    if not counts:
        return Agent(id=None, name=None)
    agent_id, name = min(counts, key=lambda agent: (-counts[agent], str(agent[0]), str(agent[1])))
    return Agent(id=agent_id, name=name)


def _structures(evidence: Iterable[Row]) -> tuple[Structure, ...]:
    """The inputs of the evidence, each structure once, in the order of time."""
    known = {one["input_shape"]: _structure(one) for one in reversed([*evidence]) if one["input_shape"] is not None}
    return tuple(reversed(known.values()))


def _structure(execution: Row) -> Structure:
    return Structure.model_validate({name: execution[name] for name in ("input_type", "input_bytes", "input_shape")})


def _input_of(execution: Row) -> CaseInput:
    return CaseInput(structures=(_structure(execution),))


def _choose_controls(connection: psycopg.Connection, agent: Agent, evidence: Sequence[Row]) -> list[Row]:
    """Successes of the agent, each of another structure: those nearest to what failed, of equally near the newest.

    Looked for among the last 2,000 that began later than 30 days before the last piece of evidence.
    """
    if agent.id is None:
        return []
    since = max(one["event_time"] for one in evidence) - _CONTROLS_SINCE
    newest: dict[str, Row] = {}
    for one in _rows(connection, _SUCCESSES, [agent.id, since]):
        newest.setdefault(one["input_shape"], one)
    failed = [one["input_shape"] for one in evidence if one["input_shape"] is not None]
    # The sort is stable: of equal distances the newest comes first.
    nearest = sorted(newest.values(), key=lambda one: _distance_to_any(one["input_shape"], failed))
    return nearest[:MOST_CONTROLS]


def _distance_to_any(shape: str, shapes: Sequence[str]) -> float:
    return min((_distance(shape, other) for other in shapes), default=0.0)


def _distance(shape: str, other: str) -> float:
    """Share of the words of two structures that they do not have in common (Jaccard distance of multisets), 0 to 1."""
    left, right = (Counter(re.findall(r"[\w<>+.-]+", one)) for one in (shape, other))
    every = (left | right).total()
    return round(1 - (left & right).total() / every, 6) if every else 0.0


def _retry(candidate: Row, controls: Sequence[Row]) -> Retry:
    """Three attempts, one where trying again cannot help; as long as these may take by what successes took."""
    attempts = _ATTEMPTS if candidate["is_retryable"] else 1
    longest = max((one["duration_ms"] or 0 for one in controls), default=0)
    return Retry(
        max_attempts=attempts,
        backoff="exponential" if candidate["is_retryable"] else "none",
        timeout_ms=max(_SHORTEST_TIMEOUT_MS, math.ceil(attempts * longest)),
    )


def _rows(connection: psycopg.Connection, query: str, parameters: Sequence[object]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()
