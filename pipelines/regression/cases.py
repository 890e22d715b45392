"""Approved candidates as regression cases: a pure function of the published tables.

What an execution was given is not kept, so a case has the structure of its inputs, unless its reviewer supplied one.
Executions are not kept for ever either, so what a case is run on is frozen when it is first published.
"""

from typing import Any

import psycopg
from psycopg.rows import dict_row

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
from pipelines.regression.case_inputs import CaseInputs, ControlInput, choose_inputs, freeze_inputs, read_inputs
from pipelines.warehouse.connection import Warehouse

APPROVED = "approved"

_ATTEMPTS = 3
_SHORTEST_TIMEOUT_MS = 60_000
_NOTHING = CaseInputs(Agent(id=None, name=None), (), ())
"""Of a case of which nothing was kept, and no execution is left."""

Row = dict[str, Any]

_MAY_WRITE = "lock table agentmill.regression_cases in row exclusive mode"
"""Takes the right to write, and is in nobody's way: a file of cases is written by those who may write the table."""

_CANDIDATES = """
with approvals as (
    -- A review of before a merger of clusters names the candidate by an id that is now one of its signatures.
    select review.*, coalesce(member.cluster_id, substr(review.candidate_id, 4)) as cluster_id
    from agentmill.candidate_reviews as review
    left join agentmill.failure_cluster_signatures as member on member.signature_id = substr(review.candidate_id, 4)
    where review.action = 'approve'
)

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
                where merged.state = 'merged' and merged.merged_into = candidate.candidate_id
            )
        order by member.signature_id collate "C"
    ) as signature_ids,
    approval.reviewed_by,
    approval.reviewed_at,
    approval.reason,
    supplied.fixture
from agentmill.regression_candidates as candidate
join agentmill.failure_clusters as cluster using (cluster_id)
left join lateral (
    select approval.reviewed_by, approval.reviewed_at, approval.reason
    from approvals as approval
    where approval.cluster_id = candidate.cluster_id and approval.reviewed_at <= candidate.state_since
    order by approval.review_id desc
    limit 1
) as approval on true
left join lateral (
    select approval.fixture
    from approvals as approval
    where approval.cluster_id = candidate.cluster_id and approval.reviewed_at <= candidate.state_since
        and approval.fixture is not null
    order by approval.review_id desc
    limit 1
) as supplied on true
where candidate.state = %s
order by candidate.candidate_id collate "C"
"""


def build_cases(warehouse: Warehouse) -> list[Case]:
    """The cases of all approved candidates, by id. The same tables make the same cases."""
    with warehouse.connect() as connection, connection.transaction():
        return [_build(connection, candidate) for candidate in _candidates(connection)]


def freeze_cases(warehouse: Warehouse) -> None:
    """Keep what approved cases are run on, where nothing was kept yet and their executions are there.

    Raises psycopg.errors.InsufficientPrivilege for whoever may not write cases.
    """
    with warehouse.connect() as connection, connection.transaction():
        connection.execute(_MAY_WRITE)
        for candidate in _candidates(connection):
            if read_inputs(connection, candidate) is None and (inputs := _choose(connection, candidate)) is not None:
                freeze_inputs(connection, candidate["candidate_id"], inputs)


def _candidates(connection: psycopg.Connection) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_CANDIDATES, [APPROVED]).fetchall()


def _choose(connection: psycopg.Connection, candidate: Row) -> CaseInputs | None:
    return choose_inputs(connection, candidate, candidate["reviewed_at"] or candidate["state_since"])


def _build(connection: psycopg.Connection, candidate: Row) -> Case:
    inputs = read_inputs(connection, candidate) or _choose(connection, candidate) or _NOTHING
    fixture = candidate["fixture"]
    return Case(
        case_id=candidate["candidate_id"],
        candidate_id=candidate["candidate_id"],
        cluster_id=candidate["cluster_id"],
        title=candidate["title"] or candidate["template"],
        kind=candidate["kind"],
        agent=inputs.agent,
        category=candidate["category"],
        severity=candidate["severity"],
        template=candidate["template"],
        what_failed=candidate["sample_message"],
        input=CaseInput(fixture=fixture, structures=inputs.structures if fixture is None else ()),
        contract=Contract(
            must_not=MustNot(signature_ids=candidate["signature_ids"]),
            retry=_retry(candidate, inputs) if candidate["kind"] == "resilience" else None,
        ),
        controls=tuple(_control(one) for one in inputs.controls),
        is_blocking=candidate["is_blocking"],
        reviewed_by=candidate["reviewed_by"] or candidate["decided_by"],
        reviewed_at=candidate["reviewed_at"] or candidate["state_since"],
        reason=candidate["reason"] or candidate["state_reason"],
        evidence_execution_ids=candidate["evidence_execution_ids"],
    )


def _control(one: ControlInput) -> Control:
    structure = Structure.model_validate(one.model_dump(exclude={"duration_ms"}))
    return Control(input=CaseInput(structures=(structure,)))


def _retry(candidate: Row, inputs: CaseInputs) -> Retry:
    """Three attempts, one where trying again cannot help; as long as these may take by what successes took."""
    attempts = _ATTEMPTS if candidate["is_retryable"] else 1
    return Retry(
        max_attempts=attempts,
        backoff="exponential" if candidate["is_retryable"] else "none",
        timeout_ms=max(_SHORTEST_TIMEOUT_MS, attempts * inputs.longest_ms),
    )
