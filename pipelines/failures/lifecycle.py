"""The life cycle of failures per environment: a fold over event-time facts and append-only decisions, frame to frame.

No clock and no database: the same facts give the same states in whatever order they came in. What an occurrence or a
decision makes of one failure is told in `life`, what counts as escalation in `escalation`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import polars as pl

from pipelines.execution import TIMESTAMP
from pipelines.failures.escalation import DEFAULT_RULES, LifeCycleRules
from pipelines.failures.life import (
    DAY_US,
    MUTED,
    Calendar,
    Decision,
    FirstDays,
    Life,
    Occurrence,
    Versions,
    moment,
)

_GROUP = ("cluster_id", "environment")
_ALL_TOLD, _FIRST_TOLD, _LAST_TOLD = 5, 3, 2

DAILY = pl.Schema(
    {
        "cluster_id": pl.String(),
        "environment": pl.String(),
        "agent_id": pl.String(),
        "agent_version": pl.String(),
        "day": pl.Date(),
        "occurrence_count": pl.Int64(),
        "times": pl.List(TIMESTAMP),
    }
)
"""Grain: any part of a UTC day of a cluster in an environment, of one agent and version. `times` has all occurrences
where they are at most five, else at least the first three and the last two."""

ACTIVITY = pl.Schema({"environment": pl.String(), "day": pl.Date(), "execution_count": pl.Int64()})
"""Grain: environment and UTC day with executions, failed or not."""

VERSIONS = pl.Schema(
    {"environment": pl.String(), "agent_id": pl.String(), "agent_version": pl.String(), "first_day": pl.Date()}
)
"""Grain: environment, agent and version; the UTC day on which it ran there for the first time."""

DECISIONS = pl.Schema(
    {
        "decision_id": pl.Int64(),
        "effective_at": TIMESTAMP,
        "decided_by": pl.String(),
        "cluster_id": pl.String(),
        "environment": pl.String(),
        "action": pl.String(),
        "fixed_in_version": pl.String(),
        "muted_until": TIMESTAMP,
        "until_escalating": pl.Boolean(),
        "reason": pl.String(),
    }
)
"""Grain: decision of a person. Without an environment it is about every one."""

PASSES = pl.Schema(
    {
        "cluster_id": pl.String(),
        "environment": pl.String(),
        "executed_at": TIMESTAMP,
        "agent_version": pl.String(),
    }
)
"""Grain: run of an approved regression test that passed in all its repetitions."""

STATES = pl.Schema(
    {
        "cluster_id": pl.String(),
        "environment": pl.String(),
        "state": pl.String(),
        "activity": pl.String(),
        "since": TIMESTAMP,
        "reason": pl.String(),
        "first_seen_at": TIMESTAMP,
        "last_seen_at": TIMESTAMP,
        "occurrence_count": pl.Int64(),
        "last_day_count": pl.Int64(),
        "expected_day_count": pl.Float64(),
        "silent_days": pl.Int64(),
        "resolved_at": TIMESTAMP,
        "resolved_in_version": pl.String(),
        "muted_until": TIMESTAMP,
    }
)
"""Grain: cluster and environment. `activity` is the state apart from muting. `last_day_count` and `expected_day_count`
are of the last day of data. The resolution is the last one that nobody undid, also where the failure came back."""

TRANSITIONS = pl.Schema(
    {
        "cluster_id": pl.String(),
        "environment": pl.String(),
        "changed_at": TIMESTAMP,
        "ordinal": pl.Int64(),
        "from_state": pl.String(),
        "to_state": pl.String(),
        "reason": pl.String(),
    }
)
"""Grain: change of the state of a cluster in an environment, numbered from 1; the first comes from no state."""


@dataclass(frozen=True, slots=True)
class LifeCycles:
    """What became of failures: where they stand, as STATES, and how they came there, as TRANSITIONS."""

    states: pl.DataFrame
    transitions: pl.DataFrame


def derive_states(  # noqa: PLR0913, PLR0917 - each is a table of its own
    daily: pl.DataFrame,
    activity: pl.DataFrame,
    versions: pl.DataFrame,
    decisions: pl.DataFrame,
    passes: pl.DataFrame,
    as_of: datetime,
    rules: LifeCycleRules = DEFAULT_RULES,
) -> LifeCycles:
    """The state of each cluster in each environment at `as_of`, and every change until then.

    The frames have at least the columns of DAILY, ACTIVITY, VERSIONS, DECISIONS and PASSES, where those tell more;
    clusters are those of today. Decisions and passes of clusters without an occurrence are left out.
    """
    end = _microseconds(as_of)
    calendars, everywhere = _calendars(activity), _first_days(versions)
    local = {place: _first_days(rows) for (place,), rows in versions.partition_by("environment", as_dict=True).items()}
    told = _decisions(decisions, passes)
    last_day = max((day for one in calendars.values() for day in one.days if (day + 1) * DAY_US <= end), default=None)
    last_day = end // DAY_US - 1 if last_day is None else last_day
    states, transitions = [], []
    for (cluster_id, environment), days in _days_by_group(daily):
        calendar = calendars.get(environment, Calendar({}))
        counts = {day.number: day.occurrence_count for day in days}
        life = Life(calendar, counts, Versions(local.get(environment, everywhere), everywhere), rules)
        _live(life, days, told.of(cluster_id, environment), end, rules.escalation_count)
        states.append((cluster_id, environment, *_state(life, days, calendar, last_day, end)))
        transitions += [
            (cluster_id, environment, moment(one.at), ordinal, one.from_state, one.to_state, one.reason)
            for ordinal, one in enumerate(life.transitions, 1)
        ]
    return LifeCycles(
        pl.DataFrame(states, STATES, orient="row"),
        pl.DataFrame(transitions, TRANSITIONS, orient="row"),
    )


class _Cells(NamedTuple):
    """What is known of the times of all failures, by day, agent and version. Times become Python's where needed."""

    agent_ids: Sequence[str | None]
    versions: Sequence[str | None]
    times: pl.Series


class _Day(NamedTuple):
    """A day of a failure: how often, and which of the cells are its own."""

    number: int
    occurrence_count: int
    first_at: int
    last_at: int
    start: int
    end: int
    cells: _Cells

    @property
    def agent_ids(self) -> Sequence[str | None]:
        """The agents that failed."""
        return self.cells.agent_ids[self.start : self.end]

    def occurrences(self) -> list[Occurrence]:
        """Those whose time is known, in order."""
        agents, versions = self.agent_ids, self.cells.versions[self.start : self.end]
        told = zip(agents, versions, self.cells.times[self.start : self.end].to_list(), strict=True)
        return sorted(
            (Occurrence(at, agent_id, version) for agent_id, version, times in told for at in times),
            key=lambda one: (one.at, one.agent_id or "", one.version or ""),
        )


@dataclass(frozen=True, slots=True)
class _Told:
    """Decisions and passes by cluster, each with its environment and in the order in which they count."""

    by_cluster: dict[str, list[tuple[str | None, Decision]]] = field(default_factory=lambda: defaultdict(list))

    def of(self, cluster_id: str, environment: str | None) -> list[Decision]:
        """Those that are about a cluster in an environment."""
        return [one for place, one in self.by_cluster.get(cluster_id, ()) if place is None or place == environment]


def _live(life: Life, days: Sequence[_Day], decisions: Sequence[Decision], end: int, least: int) -> None:
    """Tell a life all that happened, in the order of time."""
    waiting = list(reversed(decisions))
    for day in days:
        while waiting and waiting[-1].at < day.number * DAY_US:
            life.decide(waiting.pop())
        day_end = (day.number + 1) * DAY_US
        life.advance(day.first_at)
        if life.is_open and not (waiting and waiting[-1].at < day_end):
            life.touch(day.last_at, day.agent_ids)
        else:
            for happened in day.occurrences():
                while waiting and waiting[-1].at < happened.at:
                    life.decide(waiting.pop())
                life.see(happened)
            while waiting and waiting[-1].at < day_end:
                life.decide(waiting.pop())
        if day.occurrence_count >= least and day_end <= end:
            life.end_day(day.number)
    while waiting:
        life.decide(waiting.pop())
    life.advance(end)


def _state(life: Life, days: Sequence[_Day], calendar: Calendar, last_day: int, end: int) -> tuple[object, ...]:
    """The columns of STATES after the key."""
    last, expected, resolution = life.transitions[-1], life.expectation(last_day), life.resolution
    until = life.mute.muted_until if life.mute else None
    return (
        MUTED if life.mute else life.activity,
        life.activity,
        moment(last.at),
        last.reason,
        moment(days[0].first_at),
        moment(days[-1].last_at),
        sum(day.occurrence_count for day in days),
        sum(day.occurrence_count for day in days if day.number == last_day),
        expected.count if expected else None,
        calendar.count_after(days[-1].number, end),
        moment(resolution.at) if resolution else None,
        resolution.shown_version if resolution else None,
        moment(until) if until is not None else None,
    )


def _days_by_group(daily: pl.DataFrame) -> Iterator[tuple[tuple[str, str | None], list[_Day]]]:
    """The days of each cluster and environment, in order; parts of one agent and version are put together again."""
    place = [*_GROUP, "day", "agent_id", "agent_version"]
    parts = daily.select(DAILY.names()).with_columns(
        pl.col("day").to_physical().cast(pl.Int64), pl.col("times").cast(pl.List(pl.Int64))
    )
    together = pl.col("times").list.explode(keep_nulls=False, empty_as_null=False).sort()
    cells = parts.group_by(place).agg(pl.col("occurrence_count").sum(), together).with_columns(times=_told_times())
    cells = cells.sort(place)
    days = cells.group_by([*_GROUP, "day"], maintain_order=True).agg(
        pl.col("occurrence_count").sum(),
        first_at=pl.col("times").list.first().min(),
        last_at=pl.col("times").list.last().max(),
        size=pl.len(),
    )
    end = pl.col("size").cum_sum()
    days = days.select(pl.exclude("size"), start=end - pl.col("size"), end=end)
    shared = _Cells(cells["agent_id"].to_list(), cells["agent_version"].to_list(), cells["times"])
    for key, rows in groupby(days.iter_rows(), key=itemgetter(0, 1)):
        yield key, [_Day._make((*row[len(_GROUP) :], shared)) for row in rows]


def _told_times() -> pl.Expr:
    """All times of at most five occurrences, else the first three and the last two: whatever parts they came in."""
    times = pl.col("times")
    edges = pl.concat_list(times.list.head(_FIRST_TOLD), times.list.tail(_LAST_TOLD))
    return pl.when(pl.col("occurrence_count") <= _ALL_TOLD).then(times).otherwise(edges)


def _calendars(activity: pl.DataFrame) -> dict[str | None, Calendar]:
    runs: dict[str | None, dict[int, int]] = defaultdict(dict)
    days = activity.group_by("environment", "day").agg(pl.col("execution_count").sum())
    for environment, day, count in days.with_columns(pl.col("day").to_physical()).rows():
        runs[environment][day] = count
    if None not in runs:  # failures of before environments were told lived in all of them
        total = days.group_by("day").agg(pl.col("execution_count").sum())
        runs[None] = dict(total.with_columns(pl.col("day").to_physical()).iter_rows())
    return {environment: Calendar(by_day) for environment, by_day in runs.items()}


def _first_days(versions: pl.DataFrame) -> FirstDays:
    known = versions.drop_nulls(["agent_version", "first_day"])
    found: dict[str | None, dict[str, date]] = defaultdict(dict)
    for agent_id, version, day in known.group_by("agent_id", "agent_version").agg(pl.col("first_day").min()).rows():
        found[agent_id][version] = day
    return found


def _decisions(decisions: pl.DataFrame, passes: pl.DataFrame) -> _Told:
    """In the order of their times; at the same time tests come before people, and people in the order they decided."""
    told = _Told()
    found: list[tuple[tuple[object, ...], str, str | None, Decision]] = []
    for row in decisions.select(DECISIONS.names()).iter_rows(named=True):
        decision = Decision(
            at=_microseconds(row["effective_at"]),
            action=row["action"],
            by=row["decided_by"],
            reason=row["reason"],
            version=row["fixed_in_version"],
            muted_until=None if row["muted_until"] is None else _microseconds(row["muted_until"]),
            until_escalating=row["until_escalating"],
        )
        found.append(((decision.at, 1, row["decision_id"], ""), row["cluster_id"], row["environment"], decision))
    for row in passes.select(PASSES.names()).iter_rows(named=True):
        at, version = _microseconds(row["executed_at"]), row["agent_version"]
        reason = f"its regression test passed{f' in version {version}' if version else ''}"
        decision = Decision(at=at, action="resolve", by="", reason=reason, version=version, is_test=True)
        found.append(((at, 0, 0, version or ""), row["cluster_id"], row["environment"], decision))
    for _, cluster_id, environment, decision in sorted(found, key=lambda one: (one[0], one[1], one[2] or "")):
        told.by_cluster[cluster_id].append((environment, decision))
    return told


def _microseconds(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (time - moment(0)) // (moment(1) - moment(0))
