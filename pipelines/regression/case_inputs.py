"""What a case is run on: whose failure it is, the structures that failed, and controls. Chosen once and kept for good.

Executions are dropped in time, and others come: without this a case would be hollowed out, and its controls would be
others every day. No id of an execution is kept, and no value of an input.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipelines.execution import FAILURES
from pipelines.regression.case_file import Agent, Structure

MOST_CONTROLS = 3

_CONTROLS_SINCE = timedelta(days=30)
_MOST_LOOKED_AT = 2_000

Row = dict[str, Any]

_COLUMNS = "source, execution_id, agent_id, agent_name, event_time, duration_ms, input_type, input_bytes, input_shape"

_EVIDENCE = f"""
select {_COLUMNS}
from agentmill.executions
where execution_id collate "C" = any(%s) and status = any(%s)
order by event_time, source collate "C", execution_id collate "C"
"""  # noqa: S608 - our own words

_SUCCESSES = f"""
select {_COLUMNS}
from agentmill.executions
where agent_id = %s and status = 'success' and input_shape is not null and event_time >= %s and event_time < %s
order by event_time desc, source collate "C", execution_id collate "C"
limit {_MOST_LOOKED_AT}
"""  # noqa: S608 - our own words

_FROZEN = """
select frozen.agent_id, frozen.agent_name, frozen.structures, frozen.controls
from agentmill.regression_case_inputs as frozen
where frozen.case_id = %s or frozen.case_id in (
    select 'rc_' || member.signature_id from agentmill.failure_cluster_signatures as member where member.cluster_id = %s
)
order by (frozen.case_id = %s) desc, frozen.frozen_at, frozen.case_id collate "C"
limit 1
"""

_FREEZE = """
insert into agentmill.regression_case_inputs (case_id, agent_id, agent_name, structures, controls)
values (%s, %s, %s, %s, %s)
on conflict do nothing
"""


class ControlInput(Structure):
    """The structure of an input that succeeded, and how long that took."""

    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class CaseInputs:
    """Whose failure a case is about, the structures that failed, and those that succeeded."""

    agent: Agent
    structures: tuple[Structure, ...]
    controls: tuple[ControlInput, ...]

    @property
    def longest_ms(self) -> int:
        """How long the slowest control took; 0 where none tells."""
        return max((one.duration_ms or 0 for one in self.controls), default=0)


def read_inputs(connection: psycopg.Connection, candidate: Row) -> CaseInputs | None:
    """What was chosen for a case; None where nothing was. What was chosen under an older id of it counts as well."""
    case_id = candidate["candidate_id"]
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_FROZEN, [case_id, candidate["cluster_id"], case_id]).fetchone()
    if found is None:
        return None
    return CaseInputs(
        Agent(id=found["agent_id"], name=found["agent_name"]),
        tuple(Structure.model_validate(one) for one in found["structures"]),
        tuple(ControlInput.model_validate(one) for one in found["controls"]),
    )


def choose_inputs(connection: psycopg.Connection, candidate: Row, approved_at: datetime) -> CaseInputs | None:
    """What a case is to be run on, by the executions there are; None where none of its evidence is left.

    Controls are successes of the agent before the approval, each of another structure: those nearest to what failed, of
    equally near the newest. Looked for among the last 2,000 that began later than 30 days before the last evidence.
    """
    evidence = _rows(connection, _EVIDENCE, [candidate["evidence_execution_ids"], list(FAILURES)])
    if not evidence:
        return None
    agent = _agent_of(evidence)
    evidence = [one for one in evidence if one["agent_id"] == agent.id]
    since = max(one["event_time"] for one in evidence) - _CONTROLS_SINCE
    successes = _rows(connection, _SUCCESSES, [agent.id, since, approved_at])
    controls = [
        ControlInput(**_structure(one), duration_ms=one["duration_ms"]) for one in _nearest(successes, evidence)
    ]
    return CaseInputs(agent, _structures(evidence), tuple(controls))


def freeze_inputs(connection: psycopg.Connection, case_id: str, inputs: CaseInputs) -> None:
    """Keep what was chosen, unless something was chosen before."""
    structures, controls = ([one.model_dump() for one in found] for found in (inputs.structures, inputs.controls))
    connection.execute(_FREEZE, [case_id, inputs.agent.id, inputs.agent.name, Jsonb(structures), Jsonb(controls)])


def _agent_of(evidence: Sequence[Row]) -> Agent:
    """The agent that failed most often among the evidence; the first by id of several."""
    counts = Counter((one["agent_id"], one["agent_name"]) for one in evidence)
    agent_id, name = min(counts, key=lambda agent: (-counts[agent], str(agent[0]), str(agent[1])))
    return Agent(id=agent_id, name=name)


def _structures(evidence: Iterable[Row]) -> tuple[Structure, ...]:
    """The inputs of the evidence, each structure once, in the order of time."""
    known = {one["input_shape"]: _structure(one) for one in reversed([*evidence]) if one["input_shape"] is not None}
    return tuple(Structure(**one) for one in reversed(known.values()))


def _structure(execution: Row) -> Row:
    return {name: execution[name] for name in ("input_type", "input_bytes", "input_shape")}


def _nearest(successes: Iterable[Row], evidence: Iterable[Row]) -> list[Row]:
    newest: dict[str, Row] = {}
    for one in successes:
        newest.setdefault(one["input_shape"], one)
    failed = [one["input_shape"] for one in evidence if one["input_shape"] is not None]
    # The sort is stable: of equal distances the newest comes first.
    return sorted(newest.values(), key=lambda one: _distance_to_any(one["input_shape"], failed))[:MOST_CONTROLS]


def _distance_to_any(shape: str, shapes: Sequence[str]) -> float:
    return min((_distance(shape, other) for other in shapes), default=0.0)


def _distance(shape: str, other: str) -> float:
    """Share of the words of two structures that they do not have in common (Jaccard distance of multisets), 0 to 1."""
    left, right = (Counter(re.findall(r"[\w<>+.-]+", one)) for one in (shape, other))
    every = (left | right).total()
    return round(1 - (left & right).total() / every, 6) if every else 0.0


def _rows(connection: psycopg.Connection, query: str, parameters: Sequence[object]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()
