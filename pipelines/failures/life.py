"""The life of one failure in one environment: what each occurrence, decision and quiet day makes of its state.

Times are microseconds and days are days since 1970, both UTC: Python's own are slow to make by the million.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from pipelines.failures.escalation import Expectation, LifeCycleRules, expect, is_escalation
from pipelines.failures.versions import compare_versions, newest_version

NEW, ONGOING, ESCALATING, RESOLVED = "new", "ongoing", "escalating", "resolved"
REGRESSED, SUSPECTED, MUTED = "regressed", "suspected", "muted"
DAY_US = 86_400_000_000

_EPOCH, _FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)

FirstDays = Mapping[str | None, Mapping[str, date]]
"""When each version of each agent was first seen."""


class Versions(NamedTuple):
    """When versions were first seen: in the environment, which dates a fix, and anywhere, which compares them."""

    here: FirstDays
    everywhere: FirstDays


class Occurrence(NamedTuple):
    """When a failure happened, of which agent in which version."""

    at: int
    agent_id: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided, or a test that passed."""

    at: int
    action: str
    by: str
    reason: str
    version: str | None = None
    muted_until: int | None = None
    until_escalating: bool = False
    is_test: bool = False


class Transition(NamedTuple):
    """A change of state."""

    at: int
    from_state: str | None
    to_state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """When a failure was resolved, and from which version on it should be gone."""

    at: int
    known_on: int
    """The day whose newest versions are meant where no version is told."""
    fixed_in: str | None = None
    shown_version: str | None = None
    by_test: bool = False


@dataclass(frozen=True)
class Calendar:
    """The executions of an environment by day."""

    runs: Mapping[int, int]

    @cached_property
    def days(self) -> list[int]:
        """The days with executions, in order: a source that is silent itself tells nothing of failures."""
        return sorted(day for day, count in self.runs.items() if count > 0)

    def end_of(self, number: int, after: int) -> int | None:
        """The end of the first, second, ... day with executions after a day; None where it is still to come."""
        place = bisect_right(self.days, after) + number - 1
        return (self.days[place] + 1) * DAY_US if place < len(self.days) else None

    def count_after(self, day: int, end: int) -> int:
        """How many days with executions came after a day and were over at a time."""
        return max(0, bisect_right(self.days, end // DAY_US - 1) - bisect_right(self.days, day))


class Life:
    """The state of one failure in one environment, as its facts come in, in the order of their times."""

    def __init__(
        self, calendar: Calendar, counts: Mapping[int, int], versions: Versions, rules: LifeCycleRules
    ) -> None:
        self.transitions: list[Transition] = []
        self.base: str | None = None
        self.mute: Decision | None = None
        self.resolution: Resolution | None = None
        self.last_at = 0
        self._calendar, self._counts, self._versions, self._rules = calendar, counts, versions, rules
        self._is_escalating = False
        self._since_day = 0
        self._agents: set[str | None] = set()
        self._left_out: set[int] = set()
        self._escalated_days = 0
        self._refuted_by: Occurrence | None = None
        self._resolves_at: int | None = None
        self._calms_at: int | None = None
        self._ages_at: int | None = None

    @property
    def activity(self) -> str | None:
        """The state apart from muting; None before the first occurrence."""
        return ESCALATING if self._is_escalating else self.base

    @property
    def is_open(self) -> bool:
        """Whether one more occurrence changes nothing but when it was last seen."""
        return self.base in {NEW, ONGOING, REGRESSED}

    def expectation(self, day: int) -> Expectation | None:
        """How often it was to be expected on a day, as it is since it came, or came back."""
        return expect(day, self._since_day, self._counts, self._calendar.runs, self._left_out, self._rules)

    def advance(self, until: int) -> None:
        """Let time pass: what quiet days, and the ends of mutes, bring about."""
        while due := [
            (at, order)
            for order, at in enumerate((self._resolves_at, self._mute_ends_at, self._calms_at, self._ages_at))
            if at is not None and at <= until
        ]:
            at, order = min(due)
            (self._fall_silent, self._end_mute, self._calm, self._age)[order](at)

    def see(self, happened: Occurrence) -> None:
        """An occurrence: the first, one more, or one that should not have been."""
        self.advance(happened.at)
        day = happened.at // DAY_US
        self._agents.add(happened.agent_id)
        if self.base is None and self.resolution is None:
            self._since_day, self.base = day, NEW
            self._ages_at = self._calendar.end_of(self._rules.new_days, day)
            self._show(happened.at, f"first seen{_in_version(happened.version)}")
        elif self.resolution is not None and self.base in {None, RESOLVED, SUSPECTED}:
            self._come_back(happened, self.resolution)
        self.touch(happened.at)

    def touch(self, last_at: int, agents: Sequence[str | None] = ()) -> None:
        """Occurrences that change nothing but when it was last seen."""
        self.last_at = last_at
        self._agents.update(agents)
        self._resolves_at = self._calendar.end_of(self._rules.silent_days, last_at // DAY_US)

    def end_day(self, day: int) -> None:
        """Judge a day that is over: whether it escalated, or calmed down."""
        at = (day + 1) * DAY_US
        self.advance(at - 1)
        expected = None if self.base in {None, RESOLVED} else self.expectation(day)
        if expected is None:
            return
        if is_escalation(self._counts[day], expected, self._rules):
            self._escalate(at, day, expected)
        elif self._is_escalating:
            self._calm(at)

    def decide(self, decision: Decision) -> None:
        """What a person decided, or a test that passed."""
        self.advance(decision.at)
        told = f"{decision.by}: {decision.reason}"
        if decision.action == "resolve":
            self._resolve_by(decision)
        elif decision.action == "reopen":
            self._refuted_by, undone, self.resolution = None, self.resolution, None
            if undone and self.base in {RESOLVED, SUSPECTED}:
                self.base = ONGOING
                self._resolves_at = self._calendar.end_of(self._rules.silent_days, decision.at // DAY_US)
                self._show(decision.at, f"reopened by {told}")
            elif self.base is not None:
                self.resolution = undone
        else:
            is_over = decision.muted_until is not None and decision.muted_until <= decision.at
            self.mute = decision if decision.action == "mute" and not is_over else None
            until = f" until {_minute(decision.muted_until)}" if decision.muted_until else ""
            until += " until it escalates" if decision.until_escalating else ""
            self._show(decision.at, f"{decision.action}d{until} by {told}")

    @property
    def _mute_ends_at(self) -> int | None:
        return self.mute.muted_until if self.mute else None

    def _show(self, at: int, reason: str) -> None:
        """Note the change, if what is shown has changed."""
        state = MUTED if self.mute and self.base else self.activity
        before = self.transitions[-1].to_state if self.transitions else None
        if state is not None and state != before:
            self.transitions.append(Transition(at, before, state, reason))

    def _come_back(self, happened: Occurrence, resolved: Resolution) -> None:
        """It should be gone: either it is back, or an old version still runs."""
        known = self._versions.everywhere.get(happened.agent_id, {})
        here = self._versions.here.get(happened.agent_id, {})
        fixed = resolved.fixed_in or newest_version(here, _date(resolved.known_on))
        order = compare_versions(happened.version, fixed, known) if happened.version and fixed else None
        day = happened.at // DAY_US
        how = "its regression test passed" if resolved.by_test else "it was resolved"
        seen = f"seen again{_in_version(happened.version)}"
        if order != -1:
            self.base, self._since_day = REGRESSED, day
            self._refuted_by = happened if resolved.by_test else None
            self._ages_at = self._calendar.end_of(self._rules.regressed_days, day)
            self._clear_escalation()
            self._show(happened.at, f"{seen} after {how} on {_day(resolved.at // DAY_US)}{_in_version(fixed)}")
        elif self.base != SUSPECTED:
            self.base, self._since_day = SUSPECTED, day
            older = f"which is older than {fixed}, where {how}: an old deployment may still run"
            self._show(happened.at, f"{seen}, {older}")

    def _resolve_by(self, decision: Decision) -> None:
        if decision.is_test and self._is_refuted(decision):
            return
        version = f" in version {decision.version}" if decision.version else ""
        told = decision.reason if decision.is_test else f"resolved{version} by {decision.by}: {decision.reason}"
        if self.base != RESOLVED:
            self._resolve(self._resolution(decision.at, decision.version, by_test=decision.is_test), told)
        elif self.resolution and decision.version and not decision.is_test:
            self.resolution = replace(self.resolution, fixed_in=decision.version, shown_version=decision.version)

    def _is_refuted(self, test: Decision) -> bool:
        """Whether it failed after its test had passed: only a later version than that which failed can pass anew."""
        if self._refuted_by is None:
            return False
        known = self._versions.everywhere.get(self._refuted_by.agent_id, {})
        failed = self._refuted_by.version
        return not (test.version and failed) or compare_versions(test.version, failed, known) != 1

    def _resolve(self, resolution: Resolution, reason: str) -> None:
        self.resolution = resolution
        self._resolves_at = self._ages_at = None
        self._clear_escalation()
        if self.base is not None:
            self.base = RESOLVED
            self._show(resolution.at, reason)

    def _resolution(self, at: int, version: str | None = None, *, by_test: bool = False) -> Resolution:
        """A resolution in a version, or else in the newest that its agents had by then."""
        known: dict[str, date] = {}
        for agent_id in self._agents:
            for one, day in self._versions.here.get(agent_id, {}).items():
                known[one] = min(day, known.get(one, day))
        shown = version or newest_version(known, _date(at // DAY_US))
        return Resolution(at, at // DAY_US, version, shown, by_test)

    def _fall_silent(self, at: int) -> None:
        # Where an old version was suspected, the version of the resolution before is still the one that is meant.
        before = self.resolution if self.base == SUSPECTED else None
        resolution = before or self._resolution(at - 1)
        days, last = self._rules.silent_days, _day(self.last_at // DAY_US)
        self._resolve(replace(resolution, at=at, by_test=False), f"none in {days} days with executions, last on {last}")

    def _escalate(self, at: int, day: int, expected: Expectation) -> None:
        self._escalated_days += 1
        if self._escalated_days <= self._rules.incident_days:
            self._left_out.add(day)
        if not self._is_escalating and self.mute and self.mute.until_escalating:
            self.mute = None
        self._is_escalating = True
        self._calms_at = self._next_quiet_end(day)
        self._show(at, self._compared(day, expected))

    def _next_quiet_end(self, day: int) -> int | None:
        """The end of the next day with too few occurrences to be judged for escalation."""
        days, least = self._calendar.days, self._rules.escalation_count
        later = (one for one in days[bisect_right(days, day) :] if self._counts.get(one, 0) < least)
        quiet = next(later, None)
        return None if quiet is None else (quiet + 1) * DAY_US

    def _calm(self, at: int) -> None:
        day = at // DAY_US - 1
        expected = self.expectation(day)
        self._clear_escalation()
        self._show(at, f"no longer escalating: {self._compared(day, expected)}")

    def _clear_escalation(self) -> None:
        self._is_escalating, self._calms_at, self._escalated_days = False, None, 0

    def _age(self, at: int) -> None:
        came_back = self.base == REGRESSED
        self.base, self._ages_at = ONGOING, None
        event = "it came back" if came_back else "it was first seen"
        days = self._rules.regressed_days if came_back else self._rules.new_days
        self._show(at, f"{days} days with executions have passed since {event} on {_day(self._since_day)}")

    def _end_mute(self, at: int) -> None:
        self.mute = None
        self._show(at, f"it was muted until {_minute(at)}")

    def _compared(self, day: int, expected: Expectation | None) -> str:
        count, runs = self._counts.get(day, 0), self._calendar.runs.get(day, 0)
        told = f"{count:,} occurrence{'s' * (count != 1)} on {_day(day)}"
        if expected is None:
            return told
        return f"{told} where {expected.count:,.1f} were expected from {runs:,} runs"


def moment(at: int) -> datetime:
    """Microseconds as a time."""
    return _EPOCH + timedelta(microseconds=at)


def _date(day: int) -> date:
    return _FIRST_DAY + timedelta(days=day)


def _day(day: int) -> str:
    return f"{_date(day)}"


def _minute(at: int) -> str:
    return f"{moment(at):%Y-%m-%d %H:%M} UTC"


def _in_version(version: str | None) -> str:
    return f" in version {version}" if version else ""
