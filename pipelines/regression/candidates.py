"""Which failures ask for a regression test: the strike rule, gates with their reasons, priority, and what people said.

A pure function of facts, clusters and reviews: rows in any order, late or told again, make the same candidates.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from pipelines.execution import TEXTS, TIMESTAMP
from pipelines.failures import edge_times
from pipelines.regression.priority import prioritise
from pipelines.regression.strikes import WINDOW, Strike, find_strike

Policy = Literal["gated", "three_strikes"]
State = Literal["proposed", "held", "approved", "rejected", "merged", "retired"]

PREFIX = "rc_"
GONE_AFTER = timedelta(days=60)
CANDIDATE = pl.Schema(
    {
        "candidate_id": pl.String(),
        "cluster_id": pl.String(),
        "kind": pl.String(),
        "state": pl.String(),
        "state_reason": pl.String(),
        "state_since": TIMESTAMP,
        "reviewed_by": pl.String(),
        "merged_into": pl.String(),
        "is_blocking": pl.Boolean(),
        "policy": pl.String(),
        "struck_at": TIMESTAMP,
        "window_started_at": TIMESTAMP,
        "window_occurrence_count": pl.Int64(),
        "gates": pl.String(),
        "priority": pl.Float64(),
        "priority_parts": pl.String(),
        "evidence_execution_ids": TEXTS,
    }
)
"""Grain: one cluster that met the strike rule. Its id is that of the cluster, so an older id finds it as well."""

_BASELINE = timedelta(days=28)
_MUCH_MORE = 3


@dataclass(frozen=True, slots=True)
class Gate:
    """Something a candidate has to satisfy before it is proposed, whether it does, and why."""

    gate: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that candidates are derived from.

    `states` are the failures' states by environment, `reviews` what people said, in order; `covered` the executions
    whose source says that a test was made of them. `as_of` is the end of the data.
    """

    facts: pl.DataFrame
    clusters: pl.DataFrame
    states: pl.DataFrame
    reviews: pl.DataFrame
    covered: frozenset[str]
    as_of: datetime


def derive_candidates(evidence: Evidence, policy: Policy = "gated") -> pl.DataFrame:
    """One row per cluster that met the strike rule, what matters most first.

    `three_strikes` proposes every one of them, whatever the gates say; they are told all the same.
    """
    belongs = evidence.clusters.select("cluster_id", signature_id="signature_ids").explode("signature_id")
    cells = evidence.facts.join(belongs, on="signature_id").with_columns(edge_times().alias("times"))
    of_clusters = cells.partition_by("cluster_id", as_dict=True)
    reviews = _by_cluster(evidence.reviews, belongs)
    muted = _muted(evidence.states)
    rows = []
    for found in evidence.clusters.iter_rows(named=True):
        history = _History(of_clusters[found["cluster_id"],])
        strike = find_strike(history.times)
        if strike is None:
            continue
        gates = _gates(found, evidence, muted.get(found["cluster_id"]))
        said = reviews.get(found["cluster_id"], [])
        state = _state(history, strike, gates if policy == "gated" else [], said, evidence.as_of)
        rows.append(_candidate(found, history, strike, gates, state, policy, evidence.as_of))
    return pl.DataFrame(rows, schema=CANDIDATE, orient="row").sort("priority", "candidate_id", descending=[True, False])


class _History:
    """The occurrences of one cluster: their known times, and with which agent and version each was."""

    def __init__(self, cells: pl.DataFrame) -> None:
        self._cells = cells
        told = cells.select("agent_id", "agent_version", "times").explode("times").sort("times")
        self._told = told.rows()
        self.times: list[datetime] = told["times"].to_list()

    @property
    def last(self) -> datetime:
        return self.times[-1]

    def window_count(self, strike: Strike) -> int:
        """Occurrences in the seven days up to the strike, by whole days."""
        last = strike.struck_at.date()
        within = pl.col("day").is_between(last - WINDOW + timedelta(days=1), last)
        return int(self._cells.filter(within)["occurrence_count"].sum())

    def change_since(self, moment: datetime) -> tuple[datetime, str] | None:
        """What is materially different since a moment, and when it struck: None where the failure is what it was.

        Three strikes with an agent or a version that had not failed so before, or three times as often as on the days
        of up to four weeks before.
        """
        before = [row for row in self._told if row[2] <= moment]
        after = [row for row in self._told if row[2] > moment]
        for place, what in ((0, "agent"), (1, "version")):
            known = {row[place] for row in before}
            unknown = [row for row in after if row[place] is not None and row[place] not in known]
            if (strike := find_strike([row[2] for row in unknown])) is not None:
                names = ", ".join(sorted({str(row[place]) for row in unknown}))
                return strike.struck_at, f"it struck {what} {names}, which had not failed so before"
        strike = find_strike([row[2] for row in after])
        if strike is None:
            return None
        since = max(moment - _BASELINE, self.times[0] - timedelta(days=1))
        now, then = self._daily(moment, moment + WINDOW), self._daily(since, moment)
        if now >= _MUCH_MORE * max(then, 1 / _BASELINE.days):
            return strike.struck_at, f"it happens {now:.1f} times a day, before {then:.1f} times"
        return None

    def _daily(self, start: datetime, end: datetime) -> float:
        within = pl.col("day").is_between(start.date(), end.date(), closed="right")
        return float(self._cells.filter(within)["occurrence_count"].sum()) / max((end - start).days, 1)


@dataclass(frozen=True, slots=True)
class _State:
    """Where a candidate stands, since when and why; who said so, if a person did."""

    state: State
    since: datetime
    reason: str
    reviewed_by: str | None = None
    merged_into: str | None = None
    is_blocking: bool = False


def _state(
    history: _History, strike: Strike, gates: Iterable[Gate], reviews: Sequence[dict[str, Any]], as_of: datetime
) -> _State:
    """The state that reviews, gates and time make of a candidate."""
    refused = [gate for gate in gates if not gate.passed]
    said = reviews[-1] if reviews else None
    change = None
    if said is not None:
        told = _told(said)
        if said["action"] in {"approve", "merge", "retire"}:
            return told
        if said["action"] == "reject" and (change := history.change_since(said["reviewed_at"])) is None:
            return told
    since = change[0] if change else said["reviewed_at"] if said else strike.struck_at
    after = f"; rejected by {said['reviewed_by']} before ({said['reason']}), but {change[1]}" if said and change else ""
    if refused:
        return _State("held", since, "; ".join(gate.reason for gate in refused) + after)
    if history.last + GONE_AFTER < as_of:
        gone = f"not seen since {history.last:%Y-%m-%d}, and nobody approved it in {GONE_AFTER.days} days"
        return _State("retired", history.last + GONE_AFTER, gone + after)
    struck = f"three times within seven days, up to {strike.struck_at:%Y-%m-%d %H:%M} UTC"
    return _State("proposed", since, struck + after)


_SAID: dict[str, State] = {"approve": "approved", "reject": "rejected", "merge": "merged", "retire": "retired"}


def _told(review: dict[str, Any]) -> _State:
    state: State = _SAID.get(review["action"], "proposed")
    return _State(
        state,
        review["reviewed_at"],
        f"by {review['reviewed_by']}: {review['reason']}",
        review["reviewed_by"],
        review["merged_into"],
        is_blocking=bool(review["is_blocking"]) and state == "approved",
    )


def _gates(found: dict[str, Any], evidence: Evidence, muted: str | None) -> list[Gate]:
    samples = found["sample_execution_ids"]
    covered = sorted(evidence.covered & set(samples))
    return [
        Gate(
            "has_evidence",
            bool(samples),
            f"{len(samples)} executions to write a test from"
            if samples
            else "no execution is left to write a test from",
        ),
        Gate("is_not_muted", muted is None, f"muted: {muted}" if muted else "nobody muted it"),
        Gate(
            "is_not_covered",
            not covered,
            f"its source says that a test was made of execution {covered[0]}" if covered else "no test is known",
        ),
    ]


def _muted(states: pl.DataFrame) -> dict[str, str]:
    """The clusters that are muted wherever they happen, and why."""
    told = states.group_by("cluster_id").agg(
        (pl.col("state") == "muted").all().alias("is_muted"), pl.col("reason").sort().first()
    )
    return dict(told.filter("is_muted").select("cluster_id", "reason").rows())


def _by_cluster(reviews: pl.DataFrame, belongs: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """What people said of each cluster, in order, whatever the candidate's id was then."""
    told: dict[str, list[dict[str, Any]]] = {}
    named = reviews.with_columns(signature_id=pl.col("candidate_id").str.strip_prefix(PREFIX))
    for review in named.join(belongs, on="signature_id").sort("reviewed_at", "review_id").iter_rows(named=True):
        told.setdefault(review["cluster_id"], []).append(review)
    return told


def _candidate(  # noqa: PLR0913, PLR0917 - each is a part of the row
    found: dict[str, Any],
    history: _History,
    strike: Strike,
    gates: list[Gate],
    state: _State,
    policy: Policy,
    as_of: datetime,
) -> dict[str, object]:
    priority, parts = prioritise(found, as_of)
    is_providers = found["fault_domain"] == "provider" and policy == "gated"
    return {
        "candidate_id": PREFIX + found["cluster_id"],
        "cluster_id": found["cluster_id"],
        "kind": "resilience" if is_providers else "behaviour",
        "state": state.state,
        "state_reason": state.reason,
        "state_since": state.since,
        "reviewed_by": state.reviewed_by,
        "merged_into": state.merged_into,
        "is_blocking": state.is_blocking,
        "policy": policy,
        "struck_at": strike.struck_at,
        "window_started_at": strike.window_started_at,
        "window_occurrence_count": history.window_count(strike),
        "gates": json.dumps([{"gate": one.gate, "passed": one.passed, "reason": one.reason} for one in gates]),
        "priority": priority,
        "priority_parts": json.dumps(parts),
        "evidence_execution_ids": found["sample_execution_ids"],
    }
