"""Which failures ask for a regression test: the strike rule, gates with their reasons, priority, and what people said.

A pure function of facts, clusters and reviews: rows in any order, late or told again, make the same candidates.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import polars as pl

from pipelines.execution import TEXTS, TIMESTAMP
from pipelines.failures import edge_times
from pipelines.regression.priority import prioritise
from pipelines.regression.standing import PREFIX, Review, end_of_chain, merged_into, standing_reviews
from pipelines.regression.strikes import WINDOW, Strike, find_strike

Policy = Literal["gated", "three_strikes"]
State = Literal["proposed", "held", "approved", "rejected", "merged", "retired"]

GONE_AFTER_DAYS = 60
"""Days with executions without the failure, after which nobody is asked about it any more."""
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

    `states` are the failures' states by environment, `reviews` what people said, as REVIEW; `signatures` the cluster of
    today of every signature ever published; `covered` the executions whose source says that a test was made of them.
    `active_days` are the days with executions, in order; `as_of` is the end of the data.
    """

    facts: pl.DataFrame
    clusters: pl.DataFrame
    signatures: pl.DataFrame
    states: pl.DataFrame
    reviews: pl.DataFrame
    covered: frozenset[str]
    active_days: Sequence[date]
    as_of: datetime


def derive_candidates(evidence: Evidence, policy: Policy = "gated") -> pl.DataFrame:
    """One row per cluster that met the strike rule, what matters most first.

    `three_strikes` proposes every one of them, whatever the gates say; they are told all the same.
    """
    cluster_of = dict(evidence.signatures.select("signature_id", "cluster_id").iter_rows())
    reviews = standing_reviews(evidence.reviews, cluster_of)
    struck = {one.cluster_id: one for one in _struck(evidence, policy)}
    states = {cluster_id: one.state(reviews.get(cluster_id)) for cluster_id, one in struck.items()}
    merges = {
        cluster_id: merged_into(review, cluster_of)
        for cluster_id, review in reviews.items()
        if review["action"] == "merge"
    }
    ends = {cluster_id: end_of_chain(cluster_id, merges) for cluster_id in merges.keys() & struck.keys()}
    merged = {one: _merged(struck[one], reviews[one], end, states.get(end or "")) for one, end in ends.items()}
    rows = [_candidate(one, (states | merged)[one.cluster_id], policy, evidence.as_of) for one in struck.values()]
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
        """What is materially different since a moment, and when it became so: None where the failure is what it was.

        Three strikes with an agent or a version that had not failed so before, or a week three times as bad.
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
        return None if strike is None else self._worse_week(moment, strike)

    def _worse_week(self, moment: datetime, strike: Strike) -> tuple[datetime, str] | None:
        """When the first week since a moment was over that was three times as bad as before, and how bad the worst was.

        Weeks are any seven days; of what happened, that after the day of the moment counts. Before are up to four weeks
        up to and with that day. Once in four weeks is the least that is taken for its rate.
        """
        since = max(moment - _BASELINE, self.times[0] - timedelta(days=1)).date()
        days = max((moment.date() - since).days, 1)
        before = self._count(since, moment.date()) / days
        ends = [day for day in self._days if day > moment.date()]
        weeks = [(self._count(max(day - WINDOW, moment.date()), day) / WINDOW.days, day) for day in ends]
        worse = [day for rate, day in weeks if rate >= _MUCH_MORE * max(before, 1 / _BASELINE.days)]
        if not worse:
            return None
        rate, last = max(weeks, key=lambda week: week[0])
        at = max(seen for seen in self.times if seen.date() <= worse[0])
        told = f"it happened {rate:.1f} times a day in the week up to {last:%Y-%m-%d}, before {before:.1f} times"
        return max(at, strike.struck_at), told

    @property
    def _days(self) -> list[date]:
        days: list[date] = self._cells["day"].unique().sort().to_list()
        return days

    def _count(self, after: date, last: date) -> int:
        within = pl.col("day").is_between(after, last, closed="right")
        return int(self._cells.filter(within)["occurrence_count"].sum())


@dataclass(frozen=True, slots=True)
class _State:
    """Where a candidate stands, since when and why; who said so, if a person did."""

    state: State
    since: datetime
    reason: str
    reviewed_by: str | None = None
    merged_into: str | None = None
    is_blocking: bool = False


_SAID: dict[str, State] = {"approve": "approved", "reject": "rejected", "merge": "merged", "retire": "retired"}
_ENDS: tuple[State, ...] = ("proposed", "held", "approved")
"""The states of a candidate that others may be merged into."""


@dataclass(frozen=True, slots=True)
class _Struck:
    """A cluster that met the strike rule, and all that its state follows from but what people said."""

    found: dict[str, Any]
    history: _History
    strike: Strike
    gates: list[Gate]
    refused: list[Gate]
    gone_at: datetime | None

    @property
    def cluster_id(self) -> str:
        return str(self.found["cluster_id"])

    def state(self, review: Review | None) -> _State:
        """The state that the review which holds, gates and time make of it."""
        if review is None:
            return self.unsaid(self.strike.struck_at)
        if review["action"] == "reopen":
            return self.unsaid(review["reviewed_at"])
        if review["action"] == "reject" and (change := self.history.change_since(review["reviewed_at"])) is not None:
            before = f"rejected by {review['reviewed_by']} before ({review['reason']}), but {change[1]}"
            return self.unsaid(change[0], before)
        return _told(review)

    def unsaid(self, since: datetime, before: str = "") -> _State:
        """The state without a word of anybody; `before` tells why what was said holds no more."""
        after = f"; {before}" if before else ""
        if self.refused:
            return _State("held", since, "; ".join(gate.reason for gate in self.refused) + after)
        if self.gone_at is not None:
            last = f"{self.history.last:%Y-%m-%d}"
            gone = f"not seen since {last}, and nobody approved it on {GONE_AFTER_DAYS} days with executions"
            return _State("retired", self.gone_at, gone + after)
        struck = f"three times within seven days, up to {self.strike.struck_at:%Y-%m-%d %H:%M} UTC"
        return _State("proposed", since, struck + after)


def _struck(evidence: Evidence, policy: Policy) -> Iterator[_Struck]:
    belongs = evidence.clusters.select("cluster_id", signature_id="signature_ids").explode("signature_id")
    cells = evidence.facts.join(belongs, on="signature_id").with_columns(edge_times().alias("times"))
    of_clusters = cells.partition_by("cluster_id", as_dict=True)
    muted = _muted(evidence.states)
    for found in evidence.clusters.iter_rows(named=True):
        history = _History(of_clusters[found["cluster_id"],])
        strike = find_strike(history.times)
        if strike is not None:
            gates = _gates(found, evidence, muted.get(found["cluster_id"]))
            refused = [gate for gate in gates if not gate.passed and policy == "gated"]
            yield _Struck(found, history, strike, gates, refused, _gone_at(history, evidence.active_days))


def _gone_at(history: _History, active_days: Sequence[date]) -> datetime | None:
    """The end of the sixtieth day with executions since the last occurrence; None before that."""
    since = active_days[bisect_right(active_days, history.last.date()) :]
    if len(since) < GONE_AFTER_DAYS:
        return None
    return datetime.combine(since[GONE_AFTER_DAYS - 1] + timedelta(days=1), time(), tzinfo=UTC)


def _told(review: Review) -> _State:
    state = _SAID[review["action"]]
    return _State(
        state,
        review["reviewed_at"],
        f"by {review['reviewed_by']}: {review['reason']}",
        review["reviewed_by"],
        is_blocking=bool(review["is_blocking"]) and state == "approved",
    )


def _merged(one: _Struck, review: Review, end: str | None, state: _State | None) -> _State:
    """Merged, as long as there is a candidate at the end of all mergers whose test covers it or may come to."""
    if end is not None and state is not None and state.state in _ENDS:
        return replace(_told(review), merged_into=PREFIX + end)
    if end is None:
        what, since = "the mergers from there lead nowhere", review["reviewed_at"]
    elif state is None:
        what, since = f"{PREFIX}{end} is no candidate any more", review["reviewed_at"]
    else:
        what, since = f"{PREFIX}{end} is {state.state}", max(state.since, review["reviewed_at"])
    before = f"merged into {review['merged_into']} by {review['reviewed_by']} before ({review['reason']}), but {what}"
    return one.unsaid(since, before)


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


def _candidate(one: _Struck, state: _State, policy: Policy, as_of: datetime) -> dict[str, object]:
    found, strike = one.found, one.strike
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
        "window_occurrence_count": one.history.window_count(strike),
        "gates": json.dumps([asdict(gate) for gate in one.gates]),
        "priority": priority,
        "priority_parts": json.dumps(parts),
        "evidence_execution_ids": found["sample_execution_ids"],
    }
