"""The strike rule: a failure that happens three times within any seven days asks for a regression test."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

STRIKES = 3
WINDOW = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Strike:
    """When the rule was first met: the first and the last of the occurrences that met it."""

    window_started_at: datetime
    struck_at: datetime


def find_strike(times: Sequence[datetime]) -> Strike | None:
    """The earliest three occurrences less than seven days apart, in event time, whatever order they are told in."""
    ordered = sorted(times)
    for first, last in zip(ordered, ordered[STRIKES - 1 :], strict=False):
        if last - first < WINDOW:
            return Strike(first, last)
    return None
