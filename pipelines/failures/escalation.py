"""Whether a failure happens more often on a day than is usual for it, with regard to season and to noise."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_WEEK = 7


@dataclass(frozen=True, slots=True)
class LifeCycleRules:
    """The numbers that decide about states. Days are days on which the environment had executions."""

    new_days: int = 3
    """A failure is new while it was first seen within so many last days."""
    silent_days: int = 14
    """After so many days without it, a failure counts as resolved."""
    regressed_days: int = 14
    """So long a failure that came back is called regressed; then it is ongoing."""
    escalation_count: int = 5
    """Fewer occurrences on a day are no escalation."""
    escalation_ratio: float = 2.0
    """An escalation is at least so many times what was expected."""
    escalation_tail: float = 0.001
    """An escalation is less probable than this where nothing has changed."""
    baseline_weeks: int = 8
    """The same weekday of so many weeks before tells what to expect."""
    baseline_days: int = 28
    """Where too few of these had executions, or none had the failure, so many days before do (of the calendar)."""
    baseline_least: int = 3
    """From fewer days nothing is expected."""
    incident_days: int = 7
    """The first so many days of an escalation are no part of what is expected later; what lasts longer is."""


DEFAULT_RULES = LifeCycleRules()


@dataclass(frozen=True, slots=True)
class Expectation:
    """How often a failure was to be expected on a day, and the counts that say so."""

    count: float
    basis: Sequence[tuple[int, float]] = ()
    """Of each day that was looked at, how often it happened and how often it should at the common rate."""

    @property
    def dispersion(self) -> float:
        """Pearson's statistic by its degrees of freedom: 1 for a Poisson process, more where days scatter more."""
        scatter = sum((count - usual) ** 2 / usual for count, usual in self.basis if usual > 0)
        return max(1.0, scatter / max(len(self.basis) - 1, 1))


def expect(  # noqa: PLR0913, PLR0917 - the facts of one failure, and how to look at them
    day: int,
    since: int,
    counts: Mapping[int, int],
    runs: Mapping[int, int],
    left_out: Collection[int],
    rules: LifeCycleRules,
) -> Expectation | None:
    """The rate of earlier days times the runs of this day; None without runs, or with too few days to tell.

    Days are numbers. Only days not before `since` count: before its first day a failure had no rate. That the number
    of runs is a factor carries the season of a day and a week; where three of the same weekdays are known, they carry
    also what is special about this weekday. A failure that comes in bursts may have missed all of them: that it was
    never seen on a Tuesday says nothing about this one.
    """

    def _usable(days: range) -> list[int]:
        return [one for one in days if one >= since and runs.get(one, 0) > 0 and one not in left_out]

    basis = _usable(range(day - _WEEK, day - _WEEK * rules.baseline_weeks - 1, -_WEEK))
    if len(basis) < rules.baseline_least or not any(counts.get(one) for one in basis):
        basis = _usable(range(day - 1, day - rules.baseline_days - 1, -1))
    if len(basis) < rules.baseline_least or runs.get(day, 0) <= 0:
        return None
    happened, volume = [counts.get(one, 0) for one in basis], [runs[one] for one in basis]
    rate = sum(happened) / sum(volume)
    return Expectation(rate * runs[day], [(count, rate * of) for count, of in zip(happened, volume, strict=True)])


def is_escalation(count: int, expected: Expectation, rules: LifeCycleRules) -> bool:
    """Whether so many occurrences are more than chance explains, and enough more to matter."""
    if count < rules.escalation_count or count < rules.escalation_ratio * expected.count:
        return False
    scale = expected.dispersion
    return poisson_tail(count / scale, expected.count / scale) < rules.escalation_tail


def poisson_tail(count: float, mean: float) -> float:
    """The probability of at least `count` events where `mean` are expected.

    It is the regularized lower incomplete gamma function P(count, mean), as its series (DLMF 8.11.4), so that `count`
    need not be whole: quasi-Poisson divides count and mean by the dispersion.
    """
    if count <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    term = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
    total, step = term, count
    while term > total * 1e-12:
        step += 1
        term *= mean / step
        total += term
    return min(total, 1.0)
